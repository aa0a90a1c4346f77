"""What a person edits while a stage runs makes the stage fail, so that the next run does it."""

import shutil
from pathlib import Path

import pytest

from pawprint.params import StageError
from pawprint.watch import Watch
from stages import clean, gather
from tests.support.project import Project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.txt").write_text("a")
    (tmp_path / "b.csv").write_text("b")
    return tmp_path


def test_nothing_is_said_where_nothing_changed(folder: Path):
    watch = Watch(folder, folder / "b.csv", folder / "absent")
    (folder / "b.csv").read_text()
    watch.refuse_changes()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "b.csv").write_text("c"),
        lambda folder: (folder / "deep/new.txt").write_text("a"),
        lambda folder: (folder / "deep/a.txt").unlink(),
        lambda folder: (folder / "deep/a.txt").rename(folder / "deep/c.txt"),
        lambda folder: (folder / "deep/a.txt").write_text("longer"),
    ],
    ids=["a file", "one more", "one less", "another name", "another content"],
)
def test_a_change_is_named_and_stops_the_stage(folder: Path, change):
    watch = Watch(folder)
    change(folder)
    with pytest.raises(StageError, match=f"^{folder} changed meanwhile; run `dvc repro` again$"):
        watch.refuse_changes()


def test_a_file_that_appears_is_a_change(folder: Path):
    path = folder / "decisions.csv"
    watch = Watch(path)
    path.write_text("image,action,label,by,note\n")
    with pytest.raises(StageError, match=r"decisions\.csv changed meanwhile"):
        watch.refuse_changes()


def test_a_decision_made_while_clean_runs_is_not_lost(
    small_seen: Project, monkeypatch: pytest.MonkeyPatch
):
    """clean is stopped where it judges, until the decision is in the file."""
    judge = clean.judge_labels

    def judge_and_edit(*rows: object, **options: object) -> object:
        Path("data/decisions.csv").write_text("image,action,label,by,note\n0,keep,,ada,\n")
        return judge(*rows, **options)

    monkeypatch.chdir(small_seen.path)
    monkeypatch.setattr(clean, "judge_labels", judge_and_edit)
    said = "data/decisions.csv changed meanwhile; run `dvc repro` again"
    with pytest.raises(StageError, match=f"^{said}$"):
        clean.main()
    monkeypatch.setattr(clean, "judge_labels", judge)
    clean.main()


def test_a_picture_added_while_gather_runs_is_not_lost(
    small: Project, monkeypatch: pytest.MonkeyPatch
):
    write = gather.write_report

    def write_and_add(*arguments: object) -> object:
        shutil.copyfile("data/own/red/000.jpg", "data/own/red/new.jpg")
        return write(*arguments)

    monkeypatch.chdir(small.path)
    monkeypatch.setattr(gather, "write_report", write_and_add)
    said = "data/own changed meanwhile; run `dvc repro` again"
    with pytest.raises(StageError, match=f"^{said}$"):
        gather.main()
