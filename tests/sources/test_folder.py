"""Folders of the user's: every class and every file in them is taken, or named."""

from pathlib import Path

from tests.support.world import World, fill, from_folder, offered


def test_train_valid_and_test_folders_are_the_split(tmp_path: Path):
    root = fill(tmp_path, "train/cat/1.jpg", "val/cat/2.jpg", "test/dog/3.jpg", "more/test/4.jpg")
    assert offered(from_folder(root)) == [
        ("more/test/4.jpg", "test", "", ""),
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
    assert world.table()[2]["reason"] == "No such file or directory"
