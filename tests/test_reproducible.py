"""Bit for bit: another clone, folder, locale, time zone or core count gives the same bytes.

`make check-reproducible` runs this on the shrunken sample.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.project import STAGES, Project, clone, expect, lock

pytestmark = pytest.mark.slow


def test_a_forced_run_gives_the_same_bytes(origin: Project):
    before = lock(origin)
    expect(origin, "dvc", "repro", "--force")
    assert lock(origin) == before
    assert expect(origin, "git", "status", "--porcelain") == ""


def test_another_clone_elsewhere_gives_the_same_bytes(origin: Project, tmp_path: Path):
    other = clone(origin, tmp_path / "a folder with spaces")
    surroundings = {"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "99"}
    before = os.umask(0o077)
    try:
        prefix = ["taskset", "-c", "0"] if shutil.which("taskset") else []
        expect(other, *prefix, "dvc", "repro", **surroundings)
    finally:
        os.umask(before)
    assert lock(other) == lock(origin)
    assert expect(other, "git", "status", "--porcelain") == ""


def test_after_a_pull_nothing_runs(origin: Project, tmp_path: Path):
    other = clone(origin, tmp_path / "pulled")
    expect(other, "dvc", "pull")
    said = expect(other, "dvc", "repro")
    assert "Running stage" not in said
    assert "Data and pipelines are up to date." in said


@pytest.mark.parametrize("seconds", [0.3, 3.0], ids=["early", "late"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_halfway_is_made_whole_by_the_next_run(
    origin: Project, tmp_path: Path, stage: str, seconds: float
):
    """Early falls into its imports, late into its work, or after it for the short stages."""
    project = clone(origin, tmp_path / "killed")
    expect(project, "dvc", "pull")
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    running = subprocess.Popen(
        command,
        cwd=project.path,
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    child = f"stages.{'train' if stage == 'retrain' else stage}"
    while running.poll() is None and child not in descendants(running.pid):
        time.sleep(0.02)
    time.sleep(seconds)
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    expect(project, "dvc", "repro")
    assert lock(project) == lock(origin)
    assert expect(project, "git", "status", "--porcelain") == ""


def descendants(pid: int) -> str:
    """The command lines of the processes in the session of `pid`."""
    return subprocess.run(
        ["ps", "-s", str(pid), "-o", "args="], capture_output=True, text=True
    ).stdout
