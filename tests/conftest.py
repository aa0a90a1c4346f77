"""Projects for every test that runs stages, and the pictures to run them on."""

import fcntl
import shutil
from pathlib import Path

import pytest

from tests.support.project import ROOT, TINY, Project, at, expect, make_pictures, shrink

pytest_plugins = ["tests.support.browser"]

# The files that take longest begin first, so that no process has one left when the others are done.
# One of the first two does not need `origin`, for which both processes would wait; without the slow
# tests it is test_chain.py that makes it, while another file runs.
LONG = (
    "test_experiments.py",
    "compute/test_cluster.py",
    "test_chain.py",
    "test_reproducible.py",
    "compute/test_lost_nodes.py",
    "test_disk_full.py",
    "commands/test_compare_runs.py",
    "stages/test_clean.py",
    "sources/test_presets.py",
    "stages/test_train.py",
    "commands/test_compare.py",
    "commands/test_serve.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files in LONG, in that order; the rest stays as it was collected."""
    folder = Path(__file__).parent
    place = {folder / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def make_small(project: Project) -> Project:
    make_pictures(project.path / "data/own", {"red": 30, "green": 30})
    project.edit(**TINY, **{"train.train_size": 64, "train.freeze_epochs": 2, "train.epochs": 2})
    return project


@pytest.fixture
def small(project: Project) -> Project:
    """A project on a folder of 60 pictures in two classes, with a tiny, short training."""
    return make_small(project)


@pytest.fixture(scope="session")
def small_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_small(Project(tmp_path_factory.mktemp("small") / "project"))
    for name in ("gather", "verify", "split", "features"):
        project.stage(name)
    return project


@pytest.fixture
def small_seen(small_once: Project, tmp_path: Path) -> Project:
    """A copy of `small` after the stages gather, verify, split and features."""
    return small_once.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """A git repository with the project, run to the end, committed and pushed to a local remote.

    One for the whole session, and for all its processes, because it takes a minute: tests clone it
    and leave it as it is. Beside it, opened/ says which files each stage opened.
    """
    alone = worker_id == "master"
    base = tmp_path_factory.getbasetemp() if alone else tmp_path_factory.getbasetemp().parent
    folder = base / "origin"
    with (base / "origin.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a failed try has left
            make_origin(folder)
            (folder / "done").touch()
    return at(folder / "project")


def make_origin(folder: Path) -> None:
    project = Project(folder / "project")
    shrink(project)
    (project.path / ".dvc").mkdir()
    (project.path / ".dvc/config").write_text("[core]\n    analytics = false\n    remote = near\n")
    for name in (".gitignore", ".dvcignore"):
        shutil.copyfile(ROOT / name, project.path / name)
    shutil.copyfile(ROOT / ".dvc/.gitignore", project.path / ".dvc/.gitignore")
    expect(project, "dvc", "config", "remote.near.url", str(folder / "remote"))
    expect(project, "git", "init", "-q")
    opened = folder / "opened"
    opened.mkdir()
    watcher = str(Path(__file__).parent / "support/opened")
    expect(project, "dvc", "repro", PYTHONPATH=watcher, OPENED=str(opened))
    expect(project, "git", "add", "-A")
    expect(
        project, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "run"
    )
    expect(project, "dvc", "push")
