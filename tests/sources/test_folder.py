"""Folders of the user's: every class and every file in them is taken, or named."""

import os
from pathlib import Path

import pytest
from PIL import Image

from pawprint.params import StageError
from tests.support.phone import heic, movie
from tests.support.world import World, fill, from_folder, offered, picture


def test_train_valid_and_test_folders_are_the_split(tmp_path: Path):
    root = fill(tmp_path, "train/cat/1.jpg", "val/cat/2.jpg", "test/dog/3.jpg")
    assert offered(from_folder(root)) == [
        ("test/dog/3.jpg", "dog", "test", ""),
        ("train/cat/1.jpg", "cat", "train", ""),
        ("val/cat/2.jpg", "cat", "valid", ""),
    ]


def test_a_table_gives_labels_splits_and_groups_and_a_missing_file_is_a_row(tmp_path: Path):
    world = World(tmp_path / "project")
    fill(world.path / "data/own", "a/1.jpg", "2.jpg", "unlisted.jpg")
    world.write(
        "data/own/labels.csv",
        "file,label,split,group\na/1.jpg,cat,test,ann\n2.jpg,dog,,bob\n3.jpg,dog,,\n",
    )
    world.use({"kind": "folder", "labels": "table", "table": "labels.csv"})
    world.run()
    rows = [
        (row["url"], row["label"], row["split"], row["group"], row["status"])
        for row in world.table()
    ]
    assert rows == [
        ("a/1.jpg", "cat", "test", "ann", "ok"),
        ("2.jpg", "dog", "", "bob", "ok"),
        ("3.jpg", "dog", "", "", "failed"),
    ]
    assert world.table()[2]["reason"] == "the table names it, but there is no such file"


def test_a_class_behind_a_link_is_taken(tmp_path: Path, caplog):
    root = fill(tmp_path / "own", "cat/1.jpg")
    fill(tmp_path / "elsewhere", "2.jpg", "more/3.jpg")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat/4.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    items = from_folder(root)
    assert [(item.url, item.label) for item in items] == [
        ("cat/1.jpg", "cat"),
        ("cat/4.jpg", "cat"),
        ("dog/2.jpg", "dog"),
        ("dog/more/3.jpg", "more"),
    ]
    assert all(item.read().startswith(b"\xff\xd8") for item in items if item.read)
    assert f"DVC does not see changes behind links to folders ({root / 'dog'})" in caplog.text


def test_a_link_that_leads_back_ends_and_is_named(tmp_path: Path, caplog):
    root = fill(tmp_path / "own", "cat/1.jpg", "dog/2.jpg")
    (root / "cat/all").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "dog/gone.jpg").symlink_to("nowhere.jpg")
    items = from_folder(root)
    assert [item.url for item in items] == ["cat/1.jpg", "dog/2.jpg", "dog/gone.jpg"]
    assert f"{root / 'cat/all'} leads back to {root}" in caplog.text
    with pytest.raises(OSError, match="No such file"):
        items[2].read()


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = fill(tmp_path, "cat/1.jpg", "dog/2.jpg")
    real = os.listdir

    def listdir(path: Path) -> list[str]:
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(StageError, match="dog' cannot be read: Permission denied; give access"):
        from_folder(root)


def test_an_empty_class_is_named_and_an_empty_split_is_not(tmp_path: Path):
    root = fill(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "train/dog/.hidden.jpg")
    (root / "valid").mkdir()
    assert len(from_folder(root)) == 2
    (root / "train/bird").mkdir()
    (root / "train/bird/.DS_Store").write_bytes(b"")
    with pytest.raises(StageError, match="train/bird' is empty; put pictures of this class"):
        from_folder(root)


def test_every_file_of_a_pattern_is_a_row_and_another_format_stops_the_stage(tmp_path: Path):
    world = World(tmp_path / "project")
    fill(world.path / "data/own", "cat_1.jpg", "dog_1.psd", "dog_2.PSD", "notes.txt")
    world.write("data/own/cat_2.mat", b"matlab")
    world.use({"kind": "folder", "labels": "pattern", "pattern": r"^(.+)_\d+"})
    line = world.fail()
    assert "there are 0 dog; missing of them: dog_1.psd (not a picture: its name ends in" in line
    assert "dog_2.PSD" in line
    assert "network" not in line
    assert not (world.path / "data/gathered.csv").exists()
    rows = world.table("gather.partial/gathered")
    assert [(row["url"], row["label"], row["status"]) for row in rows] == [
        ("cat_1.jpg", "cat", "ok"),
        ("cat_2.mat", "cat", "not a picture"),
        ("dog_1.psd", "dog", "not a picture"),
        ("dog_2.PSD", "dog", "not a picture"),
    ]
    world.write("data/own/dog_3.jpg", picture(9))
    world.run()
    world.run("verify")
    refused = {row["url"]: row["reason"] for row in world.table("rejected")}
    assert {"cat_2.mat", "dog_1.psd", "dog_2.PSD"} <= set(refused)


def live_photos(root: Path, *labels: str) -> None:
    """A phone's export: stills, their moving halves under both spellings, and an edit list."""
    for number, label in enumerate(labels):
        (root / label).mkdir(parents=True)
        for i in range(2):
            content = heic(Image.new("RGB", (64, 64), (90 * i, 80 * number, 120)), 6)
            (root / label / f"IMG_{i}.HEIC").write_bytes(content)
        (root / label / "IMG_0.MOV").write_bytes(movie())
        (root / label / "IMG_1.mp4").write_bytes(movie())


@pytest.mark.parametrize("how", ["parent", "pattern", "table"])
def test_the_videos_of_live_photos_are_counted_by_name_and_stop_nothing(tmp_path: Path, how: str):
    world = World(tmp_path / "project")
    root = world.path / "data/own"
    live_photos(root, "cat", "dog")
    if how == "pattern":
        for path in sorted(root.rglob("IMG*")):
            path.rename(root / f"{path.parent.name}_{path.name}")
    files = sorted(path for path in root.rglob("*IMG*"))
    lines = [f"{path.relative_to(root).as_posix()},{path.parent.name}" for path in files]
    (root / "labels.csv").write_text("file,label\n" + "\n".join(lines))
    more = {"pattern": {"pattern": "^(.+)_IMG"}, "table": {"table": "labels.csv"}}.get(how, {})
    world.use({"kind": "folder", "labels": how, **more})
    process = world.start()
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert "gather: 4 videos are left out: cat" in errors
    figures = world.metrics()
    assert figures["labels"] == {"cat": 2, "dog": 2}
    assert figures["not_pictures"]["a video, not a picture"] == 4
    assert {row["type"] for row in world.table() if row["status"] == "ok"} == {"image/heic"}
    world.run("verify")
    assert world.metrics("verify")["labels"] == {"cat": 2, "dog": 2}
    details = [row["detail"] for row in world.table("rejected")]
    assert details.count("a video, not a picture") == 4


def test_a_video_under_a_pictures_name_is_a_video(tmp_path: Path):
    world = World(tmp_path / "project")
    fill(world.path / "data/own", "cat/1.jpg", "dog/2.jpg")
    world.write("data/own/dog/3.jpg", movie())
    world.use({"kind": "folder"})
    world.run()
    assert world.metrics()["not_pictures"] == {"a video, not a picture": 1}
    assert [row["reason"] for row in world.table() if row["url"] == "dog/3.jpg"] == [
        "a video, not a picture"
    ]


def test_a_picture_of_another_format_needs_a_label_like_any(tmp_path: Path):
    root = fill(tmp_path, "cat/1.jpg", "loose.psd")
    with pytest.raises(StageError, match=r"loose\.psd' has no label"):
        from_folder(root)


def test_files_beside_the_classes_that_are_not_pictures_are_not_a_class(tmp_path: Path, caplog):
    root = fill(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "train/labels.csv", "README.md")
    assert [item.label for item in from_folder(root)] == ["cat", "dog"]
    assert "no label, so left out: train/labels.csv" in caplog.text


def test_what_include_leaves_out_whole_is_named(tmp_path: Path, caplog):
    root = fill(tmp_path, "cat/1.jpg", "dog/2.jpg", "copies/cat/1.jpg")
    assert [item.url for item in from_folder(root, include="^(cat|dog)/")] == [
        "cat/1.jpg",
        "dog/2.jpg",
    ]
    assert "`include` leaves out the folders: copies/cat" in caplog.text


def test_names_that_are_not_utf_8_or_very_long_are_taken(tmp_path: Path):
    world = World(tmp_path / "project")
    own = world.path / "data/own"
    fill(own, "cat/1.jpg", "dog/2.jpg")
    content = (own / "cat/1.jpg").read_bytes()
    Path(os.fsdecode(bytes(own) + b"/cat/caf\xe9.jpg")).write_bytes(content + b"a")
    Path(os.fsdecode(bytes(own) + b"/cat/x.jp\xe9")).write_bytes(content + b"b")
    (own / "cat" / ("n" * 241 + ".jpg")).write_bytes(content + b"c")
    (own / "cat" / ("n." + "j" * 243)).write_bytes(content + b"d")
    (own / "cat/a\rb\n.jpg").write_bytes(content + b"e")
    world.use({"kind": "folder"})
    world.run()
    rows = {row["url"]: row for row in world.table()}
    assert len(rows) == 7
    assert all((world.path / row["path"]).is_file() for row in rows.values())
    assert rows["cat/caf\\xe9.jpg"]["path"].endswith(".jpg")
    assert rows["cat/x.jp\\xe9"]["path"].endswith(".jpg")
    assert rows[f"cat/n.{'j' * 243}"]["path"].endswith(".jpg")
    assert "cat/a\rb\n.jpg" in rows
    world.run("verify")


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\tb", b"a\rb", b"x" * 101, b"\\", b" "])
def test_a_folder_whose_name_cannot_be_a_label_is_named(tmp_path: Path, name: bytes):
    world = World(tmp_path / "project")
    fill(world.path / "data/own", "cat/1.jpg")
    folder = Path(os.fsdecode(bytes(world.path / "data/own") + b"/" + name))
    fill(folder, "2.jpg")
    world.use({"kind": "folder"})
    assert "cannot name a folder" in world.refuse()


def test_a_file_that_a_read_would_wait_for_is_a_row(tmp_path: Path):
    world = World(tmp_path / "project")
    fill(world.path / "data/own", "cat/1.jpg", "dog/2.jpg")
    os.mkfifo(world.path / "data/own/cat/pipe.jpg")
    world.use({"kind": "folder"})
    world.run()
    assert [(row["status"], row["reason"]) for row in world.table() if "pipe" in row["url"]] == [
        ("failed", "not a file")
    ]


def test_a_name_with_a_line_end_does_not_break_the_line_that_names_it(tmp_path: Path):
    world = World(tmp_path / "project")
    fill(world.path / "data/own", "cat/1.jpg", "loose\nfile.jpg")
    world.use({"kind": "folder"})
    assert "'loose\\nfile.jpg' has no label" in world.refuse()
