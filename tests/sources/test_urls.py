"""Lists of addresses: one file per class, or one table for all."""

from pathlib import Path

import pytest

from pawprint.params import StageError
from pawprint.sources import urls
from tests.support.world import offered


def test_a_list_a_class_is_read_as_the_console_snippet_saves_it(tmp_path: Path):
    (tmp_path / "black.csv").write_text(
        "https://a.example/1.jpg\nhttps://a.example/2,3.jpg?x=1,2\n"
    )
    (tmp_path / "grizzly.txt").write_bytes(
        b"\xef\xbb\xbfhttp://b.example/1.jpg\r\n\r\n# mine\r\nhttp://b.example/1.jpg\r\n"
    )
    items = list(urls.find_pictures(urls.UrlsOptions(kind="urls"), tmp_path))
    assert [(item.url, item.label) for item in items] == [
        ("https://a.example/1.jpg", "black"),
        ("https://a.example/2,3.jpg?x=1,2", "black"),
        ("http://b.example/1.jpg", "grizzly"),
    ]


def test_one_table_may_hold_all_classes_with_split_and_group(tmp_path: Path):
    path = tmp_path / "all.csv"
    path.write_text(
        'URL,Label,split,group\n"http://a.example/1,2.jpg",cat,valid,monday\nhttp://a.example/3.jpg,dog,,\n'
    )
    items = list(urls.find_pictures(urls.UrlsOptions(kind="urls"), path))
    assert offered(items) == [
        ("http://a.example/1,2.jpg", "cat", "valid", "monday"),
        ("http://a.example/3.jpg", "dog", "", ""),
    ]


def test_columns_and_splits_have_the_names_that_tables_of_files_may_have(tmp_path: Path):
    path = tmp_path / "all.tsv"
    path.write_text(
        "Image URL\tSpecies\tpartition\nhttp://a.example/1.jpg\tcat\tTraining\n"
        "http://a.example/2.jpg\tdog\tval\n"
    )
    items = list(urls.find_pictures(urls.UrlsOptions(kind="urls"), path))
    assert [(item.label, item.split) for item in items] == [("cat", "train"), ("dog", "valid")]
    options = urls.UrlsOptions(
        kind="urls",
        label_column="partition",
        file_column="Image URL",
        split_column="species",
        splits={"cat": "test", "dog": "valid"},
    )
    items = list(urls.find_pictures(options, path))
    assert [(item.label, item.split) for item in items] == [("Training", "test"), ("val", "valid")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "cat.txt",
            "www.example.com/1.jpg\n",
            r"cat.txt, line 1: 'www.example.com/1.jpg' is not an address",
        ),
        ("cat.csv", "url,label\nhttp://a.example/1.jpg,\n", r"cat.csv, line 2: the label is empty"),
        (
            "cat.csv",
            "url,label\nhttp://a.example/1.jpg,null\n",
            r"cat.csv, line 2: label is 'null', .*`not_missing: \[\"null\"\]`",
        ),
        ("cat.md", "", r"a .txt or .csv or .tsv file in"),
        ("cat.txt", "", r"holds no addresses"),
        ("cat.txt", "\xff\xfe".encode("latin-1"), r"cat.txt, line 1: not UTF-8"),
        ("cat.txt", "http://a.example/1.jpg\r\nx\0\r\n", r"cat.txt, line 2: holds a NUL"),
        ("cat.txt", "http://a.example/1.jpg\n=======\n", r"line 2: '=======' is left from a merge"),
        ("cat.csv", "url,label\nhttp://a.example/1.jpg,tench, T\n", r"line 2: 3 cells, the header"),
        ("cat.csv", "url,label\nhttp://a.example/1.jpg\n", r"cat.csv, line 2: 1 cells"),
        (
            "cat.csv",
            "url,URL\nhttp://a.example/1.jpg,\n",
            r"line 1: the column 'url' is named twice",
        ),
        ("cat.csv", 'url,label\n"http://a.example/1.jpg,cat\n', r"cat.csv, line 2: not CSV"),
        ("cat.csv", "url,label\n\nhttp://a.example/1.jpg,a/b\n", r"line 3: the label 'a/b' cannot"),
        (
            "cat.csv",
            "url,split\nhttp://a.example/1.jpg,late\n",
            r"line 2: split is 'late'; it should",
        ),
        ("a\tb.txt", "http://a.example/1.jpg\n", r"the label 'a\\tb' cannot name a folder"),
    ],
)
def test_a_list_that_cannot_be_read_names_the_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StageError, match=message):
        list(urls.find_pictures(urls.UrlsOptions(kind="urls"), tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        b"url,label\nhttp://a.example/1.jpg,cat\nhttp://a.example/2.jpg,dog\n",
        b"\xef\xbb\xbfURL,Label\r\nhttp://a.example/1.jpg,cat\r\nhttp://a.example/2.jpg,dog\r\n",
        b"url,label\rhttp://a.example/1.jpg,cat\rhttp://a.example/2.jpg,dog\r",
        b"\nlabel;url\n\ncat;http://a.example/1.jpg\n;\ndog;http://a.example/2.jpg\n\n",
        b'"url"\t"label"\n"http://a.example/1.jpg"\t"cat"\nhttp://a.example/2.jpg\tdog\n',
    ],
)
def test_a_table_is_read_whichever_program_saved_it(tmp_path: Path, content: bytes):
    path = tmp_path / "all.csv"
    path.write_bytes(content)
    items = list(urls.find_pictures(urls.UrlsOptions(kind="urls"), path))
    assert [(item.url, item.label) for item in items] == [
        ("http://a.example/1.jpg", "cat"),
        ("http://a.example/2.jpg", "dog"),
    ]


@pytest.mark.parametrize("ends", [b"\r\n", b"\r", b"\n"])
def test_the_line_ends_of_a_list_do_not_matter(tmp_path: Path, ends: bytes):
    lines = [b"http://a.example/1.jpg", b"", b"http://a.example/2\xc2\x85.jpg"]
    (tmp_path / "cat.txt").write_bytes(b"\xef\xbb\xbf" + ends.join(lines))
    items = list(urls.find_pictures(urls.UrlsOptions(kind="urls"), tmp_path))
    assert [item.url for item in items] == ["http://a.example/1.jpg", "http://a.example/2\x85.jpg"]


def test_a_list_without_addresses_is_named_and_its_class_does_not_vanish(tmp_path: Path):
    (tmp_path / "cat.txt").write_text("http://a.example/1.jpg\n")
    (tmp_path / "dog.txt").write_text("# later\n")
    with pytest.raises(StageError, match=r"dog\.txt: holds no addresses"):
        list(urls.find_pictures(urls.UrlsOptions(kind="urls"), tmp_path))


def test_hidden_lists_are_left_out(tmp_path: Path):
    (tmp_path / "cat.txt").write_text("http://a.example/1.jpg\n")
    (tmp_path / "._cat.txt").write_bytes(b"\0\5\x16\7")
    assert len(list(urls.find_pictures(urls.UrlsOptions(kind="urls"), tmp_path))) == 1
