"""Whose pictures the model has seen: licences and authors, counted, for the report and the card."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pawprint.tables import read_table

NOT_STATED = "none stated"
DATASET = re.compile(r"hf://datasets/([^@]+)@")


@dataclass(frozen=True)
class LicenceCount:
    """Pictures of one licence. authors: how many are named, for those that name one."""

    licence: str
    pictures: int
    authors: int


def count_licences(paths: Sequence[str]) -> tuple[list[LicenceCount], list[str]]:
    """Return the licences of pictures, most pictures first, and the Hub's data sets they are from.

    paths: below data/images. Where the pictures come from is in data/gathered.csv; of a picture
    that is there twice under one label, the first row counts, as for verify.
    """
    gathered = read_table("data/gathered.csv")
    gathered = gathered[gathered["status"] == "ok"]
    rows = {_key(row["path"]): row for row in gathered.iloc[::-1].to_dict("records")}
    authors: dict[str, set[str]] = {}
    pictures: dict[str, int] = {}
    datasets = set()
    for path in paths:
        row = rows.get(_key(path), {})
        licence = row.get("licence") or NOT_STATED
        pictures[licence] = pictures.get(licence, 0) + 1
        authors.setdefault(licence, set()).add(row.get("author", ""))
        if match := DATASET.match(row.get("url", "")):
            datasets.add(match[1])
    counted = [LicenceCount(name, n, len(authors[name] - {""})) for name, n in pictures.items()]
    counted.sort(key=lambda each: (-each.pictures, each.licence))
    return counted, sorted(datasets)


def _key(path: str) -> tuple[str, str]:
    """Return a picture's label and name, which its path gives in data/raw and data/images alike."""
    parts = PurePosixPath(path)
    return parts.parent.name, parts.stem
