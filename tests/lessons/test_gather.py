"""lessons/gather.py: three kinds of source, and the lock."""

import hashlib

import pytest

from tests.support.archives import tarred
from tests.support.world import Server


@pytest.fixture
def collab(lesson):
    return lesson("collab")


def test_an_archive_that_the_lock_knows_is_not_fetched_again(collab):
    with Server({}) as server:
        collab.serve(server, collab.sample())
        collab.run("gather")
        collab.run("gather")
        assert server.asked["/archive.tgz"] == 1
        (collab.path / "data/raw/ratings.csv").write_text("lost")
        collab.run("gather")
        assert server.asked["/archive.tgz"] == 2
    assert (collab.path / "data/raw/ratings.csv").read_bytes() == collab.sample()["ratings.csv"]


def test_an_archive_of_another_size_or_hash_is_refused(collab):
    with Server({}) as server:
        collab.serve(server, collab.sample())
        content = bytearray(server.answers["/archive.tgz"])
        content[40] ^= 1
        server.answers["/archive.tgz"] = bytes(content)
        assert hashlib.md5(content).hexdigest() in collab.fail("gather")
        server.answers["/archive.tgz"] = bytes(content[:-1])
        assert f"{len(content) - 1} bytes" in collab.fail("gather")
    assert not (collab.path / "data/raw").exists()


def test_a_file_that_changed_behind_the_same_address_is_named(collab):
    """fast.ai publishes the hash of a first part; the lock has those of all files."""
    files = {"movie_lens_sample/ratings.csv": collab.sample()["ratings.csv"]}
    with Server({}) as server:
        collab.serve(server, collab.sample(), mode="w:")
        text = (collab.path / "archive.yaml").read_text()
        lines = [line for line in text.splitlines() if not line.startswith("md5")]
        (collab.path / "archive.yaml").write_text("\n".join(lines) + "\n")
        collab.run("gather")
        lock = (collab.path / "data/gathered.csv").read_bytes()
        files = {name: content.replace(b"1", b"2") for name, content in files.items()}
        server.answers["/archive.tgz"] = tarred(files, zipped=False)
        (collab.path / "data/raw/ratings.csv").unlink()
        assert "ratings.csv has changed" in collab.fail("gather")
    assert (collab.path / "data/gathered.csv").read_bytes() == lock


def test_an_archive_without_the_lessons_files_or_with_hostile_names_is_refused(collab):
    with Server({}) as server:
        collab.serve(server, {"other.csv": b"1\n"})
        assert "holds no ratings.csv" in collab.fail("gather")
        collab.serve(server, {"../../ratings.csv": b"1\n"})
        assert "leads outside" in collab.fail("gather")
    assert not (collab.path.parent / "ratings.csv").exists()


def test_an_address_that_fails_is_one_line(collab):
    with Server({}) as server:
        collab.serve(server, collab.sample())
        server.answers.clear()
        assert "HTTP 404" in collab.fail("gather")
        collab.edit(**{"gather.allow_private": False})
        assert "gather.allow_private" in collab.fail("gather")


def test_a_file_of_ones_own_takes_the_place_of_the_lessons(collab):
    (collab.path / "mine.csv").write_bytes(collab.sample()["ratings.csv"])
    collab.edit(**{"gather.source": "mine.csv"})
    collab.run()
    assert (collab.path / "data/raw/ratings.csv").is_file()


def test_a_folder_of_ones_own_gives_the_files_that_the_lesson_reads_and_no_others(lesson):
    mnist = lesson("mnist")
    for name, content in mnist.sample().items():
        (mnist.path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (mnist.path / "own" / name).write_bytes(content)
    (mnist.path / "own/notes.txt").write_text("mine")
    mnist.edit(**{"gather.source": "own"})
    mnist.run("gather")
    raw = mnist.path / "data/raw"
    assert {path.name for path in raw.iterdir()} == {"train", "valid"}
    # what went from the source goes from data/raw too
    gone = next((mnist.path / "own/train/3").iterdir())
    gone.unlink()
    mnist.run("gather")
    assert not (raw / "train/3" / gone.name).exists()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nowhere.csv", "does not exist"),
        ("own.tgz", "an archive of your own goes into archive.yaml"),
        ("data", "which the pipeline writes"),
        ("empty", "holds no ratings.csv"),
        ("", "should name a file or a folder"),
    ],
)
def test_a_source_that_cannot_be_is_one_line(collab, source: str, expected: str):
    (collab.path / "own.tgz").write_bytes(b"")
    (collab.path / "empty").mkdir()
    (collab.path / "data").mkdir()
    collab.edit(**{"gather.source": source})
    assert expected in collab.fail("gather")


def test_a_lock_that_is_not_understood_is_kept_and_named(collab):
    collab.run("gather")
    lock = collab.path / "data/gathered.csv"
    lock.write_text("path;bytes\n")
    assert "gathered.csv, line 1" in collab.fail("gather")
    assert lock.read_text() == "path;bytes\n"


def test_a_name_that_cannot_be_a_file_is_one_line(lesson):
    mnist = lesson("mnist")
    files = mnist.sample()
    with Server({}) as server:
        mnist.serve(server, {**files, f"train/3/{'x' * 300}.png": b"1"})
        assert "cannot be written" in mnist.fail("gather")
        mnist.serve(server, {**files, "train/3/0000.png/inside.png": b"1"})
        assert "cannot be written" in mnist.fail("gather")
