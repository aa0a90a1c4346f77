"""Labels, splits and groups by the names of files or by a table."""

import io
from pathlib import Path

import pandas as pd
import pytest

from pawprint.params import StageError, check
from pawprint.sources.folder import FolderOptions
from pawprint.sources.user_tables import MISSING
from tests.support.world import fill, from_folder, offered


def test_a_folder_can_be_shared_out_between_two_splits_always_in_the_same_way(tmp_path: Path):
    root = fill(tmp_path, *(f"valid/cat/{i}.jpg" for i in range(40)))
    items = from_folder(root, splits={"valid": ["valid", "test"]})
    splits = [item.split for item in items]
    assert set(splits) == {"valid", "test"}
    assert 8 <= splits.count("test") <= 32
    assert splits == [item.split for item in from_folder(root, splits={"valid": ["valid", "test"]})]


def test_labels_come_from_file_names_by_pattern(tmp_path: Path):
    root = fill(tmp_path, "Abyssinian_1.jpg", "great_pyrenees_12.jpg")
    assert [item.label for item in from_folder(root, labels="pattern", pattern=r"^(.+)_\d+")] == [
        "Abyssinian",
        "great_pyrenees",
    ]
    either = r"^(?:(?P<cat>[A-Z])|(?P<dog>[a-z]))"
    assert [item.label for item in from_folder(root, labels="pattern", pattern=either)] == [
        "cat",
        "dog",
    ]
    both = r"^(?P<label>[a-zA-Z_]+)_(?P<group>\d)"
    assert [
        (item.label, item.group) for item in from_folder(root, labels="pattern", pattern=both)
    ] == [
        ("Abyssinian", "1"),
        ("great_pyrenees", "1"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "pattern"}, "should hold the key pattern"),
        (
            {"labels": "pattern", "pattern": "("},
            "pattern is '\\('; it should be a regular expression",
        ),
        ({"labels": "pattern", "pattern": "a"}, "should have a group"),
        ({"labels": "pattern", "pattern": "^(x)"}, r"'\^\(x\)' does not match 'a/1.jpg'"),
        ({"labels": "table", "table": "none.csv"}, "none.csv is missing"),
        (
            {"labels": "table", "table": "bad.csv"},
            "columns file, colour; which one holds the labels. Write `label_column: colour`",
        ),
        (
            {"labels": "table", "table": "out.csv"},
            r"out.csv, line 2: '../secret.jpg' leads outside",
        ),
        ({"label": "parent"}, "unknown key label .*did you mean labels"),
        ({"splits": {"train": "training"}}, "splits"),
    ],
)
def test_labels_that_cannot_be_had_are_explained(tmp_path: Path, options: dict, message: str):
    fill(tmp_path, "a/1.jpg")
    (tmp_path / "bad.csv").write_text("file,colour\na/1.jpg,x\n")
    (tmp_path / "out.csv").write_text("file,label\n../secret.jpg,x\n")
    with pytest.raises(StageError, match=message):
        from_folder(tmp_path, **{"include": "jpg$"} | options)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"file,label\na/1.jpg,tench, Tinca tinca\n", r"t\.csv, line 2: 3 cells, the header has 2"),
        (b"file,label,split\na/1.jpg,tench\n", r"t\.csv, line 2: 2 cells, the header has 3"),
        (b"file,label\n\na/1.jpg,\0\n", r"t\.csv, line 3: holds a NUL"),
        (b"file,label\na/1.jpg,caf\xe9\n", r"t\.csv, line 2: not UTF-8"),
        (b"file,label\n<<<<<<< HEAD\na/1.jpg,x\n", r"t\.csv, line 2: '<<<<<<< HEAD' is left"),
        (b'file,label\na/1.jpg,"x\n', r"t\.csv, line 2: not CSV"),
        (b"file,label,Label\na/1.jpg,x,y\n", r"line 1: the column 'label' is named twice"),
        (b"file,label\na/1.jpg,../up\n", r"t\.csv, line 2: the label '../up' cannot name a folder"),
        (b"file,label\n,x\n", r"t\.csv, line 2: file or label is empty"),
        (
            b"file,label,group\na/1.jpg,x,1\na/1.jpg,x,2\n",
            r"names 'a/1\.jpg' twice as 'x', with another split or group",
        ),
        (
            b"file,label,split\na/1.jpg,x,late\n",
            r"line 2: split is 'late'; it should .*{late: train}",
        ),
        (
            b"file,label,split\na/1.jpg,x,\nb.jpg,x,0\nc.jpg,y,1\nd.jpg,y,0\n",
            r"line 3: split is '0'; it should .*{\"0\": train, \"1\": train}` \(train, valid",
        ),
        (b"", r"t\.csv is empty; write `file,label` as line 1"),
        (b"file,label\n", r"holds no pictures"),
    ],
)
def test_a_table_that_is_not_understood_is_one_line(tmp_path: Path, table: bytes, message: str):
    fill(tmp_path, "a/1.jpg")
    (tmp_path / "t.csv").write_bytes(table)
    with pytest.raises(StageError, match=message):
        from_folder(tmp_path, labels="table", table="t.csv")


NO_LABEL = "file,label,split\na/1.jpg,NA,\n2.jpg,bear,\n3.jpg,nan,test\n"


def test_a_word_for_a_missing_label_is_no_class_unless_the_yaml_says_so(tmp_path: Path, caplog):
    fill(tmp_path, "a/1.jpg", "2.jpg", "3.jpg")
    (tmp_path / "t.csv").write_text(NO_LABEL)
    with pytest.raises(StageError, match=r"t\.csv, line 2: label is 'NA', .*`not_missing: \[NA\]`"):
        from_folder(tmp_path, labels="table", table="t.csv")
    found = from_folder(tmp_path, labels="table", table="t.csv", not_missing=["NA"])
    # a picture of the test has no label, as if its cell were empty
    assert offered(found) == [("a/1.jpg", "NA", "", ""), ("2.jpg", "bear", "", "")]
    assert "1 rows of the test split have no label" in caplog.text


def test_words_that_are_no_class_are_those_that_pandas_reads_as_missing(tmp_path: Path):
    assert pd.read_csv(io.StringIO("\n".join(["label", *MISSING]))).isna().all().all()
    fill(tmp_path, "none/1.jpg", "Na/2.jpg", "NaN/3.jpg")  # folders are what somebody has named
    assert {item.label for item in from_folder(tmp_path)} == {"none", "Na", "NaN"}


def test_an_older_yaml_keeps_its_lock():
    options = check({"kind": "folder"}, FolderOptions, "", Path("x.yaml"))
    assert "not_missing" not in options.model_dump()


@pytest.mark.parametrize(
    "table",
    [
        b'\xef\xbb\xbfFile;Label;Group\r\n"a/1.jpg";"tench, Tinca";\r\n2.jpg;"x;y";7\r\n',
        b'file,label,group\ra/1.jpg,"tench, Tinca",\r2.jpg,x;y,7\r',
        b"label\tfile\tgroup\ntench, Tinca\ta\\1.jpg\t\n x;y \t2.jpg\t7\n\t\t\n",
    ],
)
def test_a_table_that_another_program_saved_is_understood(tmp_path: Path, table: bytes, caplog):
    fill(tmp_path, "a/1.jpg", "2.jpg", "3.jpg")
    (tmp_path / "t.csv").write_bytes(table)
    assert offered(from_folder(tmp_path, labels="table", table="t.csv")) == [
        ("a/1.jpg", "tench, Tinca", "", ""),
        ("2.jpg", "x;y", "", "7"),
    ]
    assert "t.csv does not list: 3.jpg" in caplog.text
