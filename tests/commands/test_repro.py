"""`pawprint repro` runs stages as DVC does, in processes that have imported torch already."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.project import ROOT
from tests.support.project import Project, clone, expect, lock

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd")

STAGE = """\
import json, os, sys, time
from pathlib import Path
from pawprint.params import StageError, run_stage

def main():
    what = {"arguments": sys.argv[1:], "folder": os.getcwd(), "flavour": os.environ.get("FLAVOUR")}
    what["torch"] = "torch" in sys.modules
    what["code"] = __file__
    Path("said.json").write_text(json.dumps(what | {"process": os.getpid()}))
    print("to stdout")
    print("to stderr", file=sys.stderr)
    if "fail" in sys.argv:
        raise StageError("it fails")
    if "wait" in sys.argv:
        time.sleep(60)

if __name__ == "__main__":
    run_stage(main)
"""


def pipeline(folder: Path, *words: str, command: str = "python -m stages.tell") -> Path:
    """A pipeline of one stage in a folder."""
    (folder / "stages").mkdir(parents=True)
    (folder / "stages/__init__.py").touch()
    (folder / "stages/tell.py").write_text(STAGE)
    cmd = " ".join([command, *words])
    (folder / "dvc.yaml").write_text(json.dumps({"stages": {"tell": {"cmd": cmd}}}))
    subprocess.run(["dvc", "init", "--no-scm", "--quiet"], cwd=folder, check=True)
    return folder


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pawprint", "repro", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(folder: Path) -> dict:
    return json.loads((folder / "said.json").read_text())


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stage_has_its_folder_arguments_environment_streams_and_code(tmp_path):
    folder = pipeline(tmp_path / "a folder with 'quotes'", "one", "'two words'")
    process = start(folder, "--force", "tell", FLAVOUR="salt")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = said(folder)
    assert found["arguments"] == ["one", "two words"]
    assert (found["folder"], found["flavour"]) == (str(folder), "salt")
    assert found["code"] == str(folder / "stages/tell.py")
    assert "to stdout" in out
    assert "to stderr" in err
    # options are DVC's
    process = start(folder, "--dry", "--force")
    out, err = process.communicate(timeout=120)
    assert "python -m stages.tell one 'two words'" in out
    assert "to stdout" not in out


def test_an_error_is_that_of_the_stage(tmp_path):
    folder = pipeline(tmp_path / "project", "fail")
    process = start(folder)
    _, err = process.communicate(timeout=120)
    assert process.returncode not in (0, None)
    assert "tell: it fails" in err
    assert "Traceback" not in err


def test_another_command_is_run_by_the_real_python(tmp_path):
    folder = pipeline(tmp_path / "project", "other.py", command="python")
    (folder / "other.py").write_text("import sys; print(sys.flags.isolated, __name__)")
    process = start(folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "0 __main__" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_it_is_ended(tmp_path, number):
    folder = pipeline(tmp_path / "project", "wait")
    process = subprocess.Popen(
        [sys.executable, "-m", "pawprint", "repro"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (folder / "said.json").exists() or not (folder / "said.json").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stage = said(folder)["process"]
    assert alive(stage)
    os.killpg(process.pid, number)  # as Ctrl-C in a terminal reaches all of them
    assert process.wait(60) != 0
    while alive(stage):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_the_stages_write_the_same_bytes(origin: Project, tmp_path: Path):
    other = clone(origin, tmp_path / "clone")
    expect(other, "dvc", "pull")
    stages = ["verify", "features", "train", "evaluate", "export"]
    words = ["-m", "pawprint", "repro", "--force", "--single-item", *stages]
    expect(other, sys.executable, *words)
    assert lock(other) == lock(origin)
    assert expect(other, "git", "status", "--porcelain") == ""
