"""Bit for bit: another clone, folder, locale, time zone or core count gives the same bytes.

`make check-reproducible` runs this on the shrunken sample.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.project import ROOT, STAGES, Project, clone, expect, lock

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


@pytest.fixture(scope="module")
def whole(origin: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with all its data, which every test makes whole again."""
    project = clone(origin, tmp_path_factory.mktemp("killed") / "project")
    expect(project, "dvc", "pull")
    return project


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_while_it_writes_is_made_whole_by_the_next_run(
    origin: Project, whole: Project, tmp_path: Path, stage: str
):
    """Killed together with DVC, as soon as it has opened a file to write."""
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    running = subprocess.Popen(
        command,
        cwd=whole.path,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(WATCHER), "OPENED": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while running.poll() is None and not written(tmp_path / f"{stage}.txt"):
        time.sleep(0.001)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "the run ended before it was killed"
    expect(whole, "dvc", "repro")
    assert lock(whole) == lock(origin)
    assert expect(whole, "git", "status", "--porcelain") == ""


def written(log: Path) -> list[str]:
    """The files that a stage has opened to write so far, but compiled code."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if line.startswith("w ") and "__pycache__" not in line]
