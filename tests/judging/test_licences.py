"""Licences of the pictures that a model has seen, counted from the lock."""

from pathlib import Path

import pytest

from pawprint.judging.licences import LicenceCount, count_licences
from pawprint.sources.lock import Row, write_lock


def row(label: str, letter: str, **more: str) -> Row:
    sha256 = letter * 64
    values = {"url": f"https://x.org/{letter}", "source": "s:0123456789ab", **more}
    return Row(f"data/raw/{label}/{sha256[:16]}.png", label, sha256=sha256, bytes=1, **values)


def path(label: str, letter: str) -> str:
    return f"data/images/{label}/{letter * 16}.jpg"


def test_pictures_and_authors_are_counted_by_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    by = {"licence": "cc-by-4.0"}
    write_lock(
        [
            row("cat", "a", author="Ann", **by),
            row("cat", "b", author="Ann", **by),
            row("dog", "c", author="Bo", **by),
            row("dog", "d"),
            row("dog", "d", licence="cc0-1.0"),  # a copy: the first row counts
            row("dog", "e", licence="mit", status="withheld"),
            row("cat", "f", licence="mit", url="hf://datasets/lab/cats@0123/a.parquet#1"),
            row("cat", "0", licence="mit"),  # gathered, but not one of those that are asked for
        ]
    )
    asked = [path("cat", each) for each in "abf"] + [path("dog", each) for each in "cd"]
    assert count_licences(asked) == (
        [
            LicenceCount("cc-by-4.0", 3, 2),
            LicenceCount("mit", 1, 0),
            LicenceCount("none stated", 1, 0),
        ],
        ["lab/cats"],
    )


def test_a_lock_without_licences_is_counted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_lock([row("cat", "a"), row("dog", "b")])
    asked = [path("cat", "a"), path("dog", "b")]
    assert count_licences(asked) == ([LicenceCount("none stated", 2, 0)], [])
