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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "cat.txt",
            "www.example.com/1.jpg\n",
            r"cat.txt, line 1: 'www.example.com/1.jpg' is not an address",
        ),
        ("cat.csv", "url,label\nhttp://a.example/1.jpg,\n", r"cat.csv, line 2: the label is empty"),
        ("cat.md", "", r"a .txt or .csv file in"),
        ("cat.txt", "", r"holds no addresses"),
        ("cat.txt", "\xff\xfe".encode("latin-1"), r"not UTF-8"),
    ],
)
def test_a_list_that_cannot_be_read_names_the_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StageError, match=message):
        list(urls.find_pictures(urls.UrlsOptions(kind="urls"), tmp_path))
