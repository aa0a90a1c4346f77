"""Bit for bit: another clone, folder, locale, time zone or core count gives the same bytes.

`make check-reproducible` runs this on the shrunken sample.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pawprint.params import load_yaml
from tests.support.project import ROOT, STAGES, Project, clone, expect, lock, warm_path

pytestmark = pytest.mark.slow
WATCHER = ROOT / "tests/support/opened"


def test_a_forced_run_of_another_clone_elsewhere_gives_the_same_bytes(
    origin: Project, tmp_path: Path
):
    other = clone(origin, tmp_path / "a folder with spaces")
    expect(other, "dvc", "pull")
    surroundings = {"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "99"}
    before = os.umask(0o077)
    try:
        prefix = ["taskset", "-c", "0"] if shutil.which("taskset") else []
        said = expect(other, *prefix, "dvc", "repro", "--force", **surroundings)
    finally:
        os.umask(before)
    assert said.count("Running stage") == len(STAGES)
    assert lock(other) == lock(origin)
    assert expect(other, "git", "status", "--porcelain") == ""


def test_after_a_pull_nothing_runs(origin: Project, tmp_path: Path):
    other = clone(origin, tmp_path / "pulled")
    expect(other, "dvc", "pull")
    said = expect(other, "dvc", "repro")
    assert "Running stage" not in said
    assert "Data and pipelines are up to date." in said


def test_stages_killed_while_they_write_are_made_whole_by_the_next_run(
    origin: Project, tmp_path: Path
):
    """Each is killed together with DVC, when its first file is written and has no name yet.

    The last stage is killed first, so that each finds all that it reads.
    """
    whole = clone(origin, tmp_path / "project")
    expect(whole, "dvc", "pull")
    for stage in reversed(STAGES):
        held = kill_while_it_writes(whole, stage, tmp_path / f"{stage}.txt")
        assert held.with_name(f".{held.name}.partial").is_file(), f"{stage} did not write {held}"
    said = expect(whole, "dvc", "repro", PATH=warm_path())
    ran = re.findall(r"Running stage '(\w+)'", said)
    # what gather wrote before persists, and DVC has all that two other stages write in its cache
    assert ran == [name for name in STAGES if name not in ("gather", "features", "show_batch")]
    before, after = (load_yaml(each.path / "dvc.lock")["stages"] for each in (origin, whole))
    assert [name for name in STAGES if after[name] != before[name]] == []
    assert lock(whole) == lock(origin)
    assert expect(whole, "git", "status", "--porcelain") == ""


def kill_while_it_writes(project: Project, stage: str, log: Path) -> Path:
    """Start a stage under DVC, and kill both while it writes a file; the file's name."""
    running = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage],
        cwd=project.path,
        env={
            **os.environ,
            "PATH": warm_path(),
            "PYTHONPATH": str(WATCHER),
            "OPENED": str(log.parent),
            "HOLD": "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while running.poll() is None and "held " not in (log.read_text() if log.exists() else ""):
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, f"{stage} ended before it was killed"
    path = re.findall("^held (.*)$", log.read_text(), re.MULTILINE)[0]
    return project.path / path
