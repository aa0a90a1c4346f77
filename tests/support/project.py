"""A throw-away copy of the project, for tests that run its stages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.project import ROOT, ProjectCopy, edit_yaml
from pawprint.__main__ import main
from pawprint.commands.compare import runs as compare_runs
from pawprint.tables import read_table
from tests.support.warm import run_stages, warm_python

__all__ = ["ROOT", "edit_yaml"]


class Project(ProjectCopy):
    """A copy of the project in a temporary folder, with what only tests need."""

    def stage(
        self, name: str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one stage with the code of this repository. Raises AssertionError if it fails.

        In an environment of its own it is started as DVC does; without one, quickly.
        """
        if environment:
            return super().stage(name, *arguments, **environment)
        done = run_stages(self.path, [name, *arguments])
        assert done.returncode == 0, done.stderr
        return done

    def copy(self, path: Path) -> "Project":
        """Copy the project, with its data, to a new folder."""
        shutil.copytree(self.path, path, symlinks=True)
        return at(path)

    def failing_stage(self, name: str, *arguments: str) -> str:
        """Run one stage, expect exit code 1 and one line without a traceback; that line."""
        done = run_stages(self.path, [name, *arguments])
        lines = [
            line
            for line in done.stderr.replace("\r", "\n").splitlines()
            if line.strip(" \x1b[A") and "%|" not in line  # bars, and the way back to the upper one
        ]
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert len(lines) == 1, done.stderr
        return lines[0]


PHOTOS = ROOT.parent / "shared" / "data"


def make_pictures(folder: Path, classes: dict[str, int], size: int = 96) -> None:
    """Write pictures that a small model can tell apart: a colour per class, a pattern for each."""
    colours = [(190, 60, 50), (50, 160, 70), (60, 80, 190)]
    for (name, count), colour in zip(classes.items(), colours, strict=False):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            noise = np.random.default_rng([i, *colour])
            blocks = Image.fromarray(noise.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
                (size, size)
            )
            Image.blend(Image.new("RGB", (size, size), colour), blocks, 0.45).save(
                folder / name / f"{i:03}.jpg"
            )


TINY = {
    "gather.source": "folder",
    "compute.device": "cpu",
    "train.arch": "test_efficientnet",
    "train.pretrained": False,
    "train.size": 64,
}


def shrink(project: Project) -> None:
    """Sixty drawn pictures and one short epoch, everything else as the default run."""
    project.edit("data/sources/sample.yaml", size=60)
    project.edit(
        **{
            "compute.threads": 2,  # the order in which threads add up decides the last bits
            "train.size": 96,
            "train.train_size": 64,
            "train.epochs": 1,
            "clean.folds": 2,
            "clean.auto": "drop",
            "clean.threshold": 0.5,  # sure enough to drop some, so that retrain trains
        }
    )


def expect(project: Project, *command: str, **environment: str) -> str:
    """Run a command in the project, expect it to succeed; what it printed."""
    done = project.run(*command, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def warm_path() -> str:
    """A PATH for DVC: its stages run in processes that have imported torch already."""
    own = str(Path(sys.executable).parent)
    return os.pathsep.join([str(warm_python()), own, os.environ["PATH"]])


def commit(project: Project) -> None:
    """Commit everything that git does not ignore."""
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    expect(project, "git", "add", "-A")
    expect(project, "git", *who, "commit", "-qm", "begin")


def begin(project: Project) -> None:
    """Put a project into git, after `dvc repro split`."""
    (project.path / ".dvc").mkdir()
    (project.path / ".dvc/config").write_text("[core]\n    analytics = false\n")
    for name in (".gitignore", ".dvcignore", ".dvc/.gitignore"):
        shutil.copyfile(ROOT / name, project.path / name)
    expect(project, "git", "init", "-q")
    expect(project, "dvc", "repro", "split", PATH=warm_path())
    commit(project)


def compare_here(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    *words: str,
) -> tuple[int, str, str]:
    """Run `pawprint compare` in this process; its exit code and what it printed."""
    monkeypatch.setattr(compare_runs, "environment", lambda: {**os.environ, "PATH": warm_path()})
    monkeypatch.chdir(project.path)
    with pytest.raises(SystemExit) as ended:
        main(["compare", *words])
    return int(ended.value.code or 0), *capfd.readouterr()


def clone(origin: Project, path: Path) -> Project:
    """A second checkout of a project in git, without its data."""
    subprocess.run(["git", "clone", "-q", str(origin.path), str(path)], check=True)
    return at(path)


def at(path: Path) -> Project:
    """The project that is in a folder already."""
    project = Project.__new__(Project)
    project.path = path
    return project


def lock(project: Project) -> str:
    return (project.path / "dvc.lock").read_text()


STAGES = [
    "gather",
    "verify",
    "split",
    "features",
    "baseline",
    "lr_find",
    "lr",
    "show_batch",
    "train",
    "interpret",
    "clean",
    "retrain",
    "evaluate",
    "export",
]


def table(project: Project, name: str) -> pd.DataFrame:
    """A table of a project: data/NAME.csv."""
    return read_table(project.path / f"data/{name}.csv")


# the arguments of the stage train for the first model
TRAIN = (
    "--table",
    "data/split.csv",
    "--model",
    "models/first.safetensors",
    "--metrics",
    "metrics/train",
)
