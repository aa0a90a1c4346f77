"""Projects for every test that runs stages, and the pictures to run them on."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.project import ROOT, Project

PHOTOS = ROOT.parent / "shared" / "data"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def make_pictures(folder: Path, classes: dict[str, int], size: int = 96) -> None:
    """Write pictures that a small model can tell apart: a class has its own main colour, a picture its own pattern."""
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


@pytest.fixture
def small(project: Project) -> Project:
    """A project on a folder of 60 pictures in two classes, with a tiny architecture and short training."""
    make_pictures(project.path / "data/own", {"red": 30, "green": 30})
    project.edit(**TINY, **{"train.train_size": 64, "train.freeze_epochs": 2, "train.epochs": 2})
    return project


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
            "clean.auto": "flag",
        }
    )


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A git repository with the project, run to the end, everything committed and pushed to a local remote.

    One for the whole session, because it takes a minute: tests clone it.
    """
    project = Project(tmp_path_factory.mktemp("origin") / "project")
    shrink(project)
    (project.path / ".dvc").mkdir()
    (project.path / ".dvc/config").write_text("[core]\n    analytics = false\n    remote = near\n")
    for name in (".gitignore", ".dvcignore"):
        shutil.copyfile(ROOT / name, project.path / name)
    shutil.copyfile(ROOT / ".dvc/.gitignore", project.path / ".dvc/.gitignore")
    remote = tmp_path_factory.mktemp("remote")
    expect(project, "dvc", "config", "remote.near.url", str(remote))
    expect(project, "git", "init", "-q")
    expect(project, "dvc", "repro")
    expect(project, "git", "add", "-A")
    expect(
        project, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "run"
    )
    expect(project, "dvc", "push")
    return project


def expect(project: Project, *command: str, **environment: str) -> str:
    """Run a command in the project, expect it to succeed; what it printed."""
    done = project.run(*command, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clone(origin: Project, path: Path) -> Project:
    """A second checkout of a project in git, without its data."""
    subprocess.run(["git", "clone", "-q", str(origin.path), str(path)], check=True)
    project = Project.__new__(Project)
    project.path = path
    return project


def lock(project: Project) -> str:
    return (project.path / "dvc.lock").read_text()
