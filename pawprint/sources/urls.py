"""Source `urls`: addresses in text or CSV files, one file per class or one for all.

The Google Images console snippet of the lesson notes saves one address per line, under the name of
your choice. Such files are read as they are: `bears/black.csv` gives the class black.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from pawprint.params import StageError
from pawprint.sources import Found
from pawprint.sources.names import check_label, check_path_text
from pawprint.sources.user_tables import (
    LABEL_NAMES,
    ColumnOptions,
    Splits,
    no_label,
    parse_user_table,
    pick_split,
    read_list,
    read_splits,
    squeeze,
)
from pawprint.tables import refuse_odd_text

LISTS = (".txt", ".csv", ".tsv")
ADDRESS_NAMES = (
    *("url", "imageurl", "link", "imagelink", "address", "uri", "urls", "image", "src", "href"),
)


class UrlsOptions(ColumnOptions):
    """What data/sources/NAME.yaml may say for `kind: urls`, besides ColumnOptions.

    files: lists to read, relative to `gather.path`. Without it, every .txt, .csv and .tsv there is
    read, in the order of their names. file_column: that holds the addresses. splits: what words in
    the column split mean, if they are not known ones.
    """

    added: ClassVar[tuple[str, ...]] = (*ColumnOptions.added, "splits")
    kind: Literal["urls"]
    files: list[Annotated[str, AfterValidator(check_path_text)]] = Field(default_factory=list)
    splits: Splits = Field(default_factory=dict)


def find_pictures(options: UrlsOptions, root: Path) -> Iterator[Found]:
    """Yield every address, once per label, in the order of the lists.

    root: `gather.path`, a folder with lists or a single list.
    Raises StageError for a list that is missing or holds no addresses, and for a line that is not
    an address.
    """
    seen: set[tuple[str, str]] = set()
    for path in list_paths(options, root):
        items = list(read_addresses(path, options))
        if not items:
            raise StageError(f"{path}: holds no addresses; write one per line, or remove it")
        for item in items:
            if (item.url, item.label) not in seen:
                seen.add((item.url, item.label))
                yield item


def fingerprint(options: UrlsOptions, root: Path) -> str:
    """Return a text that changes when a list does: the lock then belongs to another source."""
    return str(
        [
            (path.name, hashlib.sha256(read_list(path)).hexdigest())
            for path in list_paths(options, root)
        ]
    )


def list_paths(options: UrlsOptions, root: Path) -> list[Path]:
    """Return the lists to read. Raises StageError if one is missing, or there is none."""
    if root.is_file():
        return [root]
    paths = [root / name for name in options.files]
    if not paths:
        visible = (path for path in root.glob("*") if not path.name.startswith("."))
        paths = sorted(path for path in visible if path.suffix.lower() in LISTS)
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        what = missing[0] if missing else f"a {' or '.join(LISTS)} file in '{root}'"
        raise StageError(
            f"gather.path: {what} is missing; put a list there, one address per line, one file per "
            "class"
        )
    return paths


def read_addresses(path: Path, options: UrlsOptions) -> Iterator[Found]:
    """Yield the addresses of one list.

    If its header names a column for addresses, it is a table; its label column, or else the file's
    name, gives the label. Otherwise each line is an address. Raises StageError that names the line.
    """
    content = read_list(path)
    refuse_odd_text(content, str(path))
    lines = re.split(r"\r\n|\r|\n", content.decode("utf-8-sig"))
    first = next((line for line in lines if line.strip()), "")
    cells = {squeeze(cell) for cell in re.split("[,;\t]", first)}
    if not options.file_column and not cells & set(ADDRESS_NAMES):
        yield from _read_lines(lines, path)
        return
    table = parse_user_table(content, str(path))
    column = table.find(ADDRESS_NAMES, options.file_column, "file_column")
    labels = table.find(LABEL_NAMES, options.label_column, "label_column")
    group = table.find(("group", "groups"), options.group_column, "group_column")
    query = table.find(("query",))
    splits = read_splits(table, options.split_column, options.splits)
    credits = options.credit_columns(table, (column, labels))
    for (number, row), split in zip(table.rows, splits, strict=True):
        label = options.read_label(row[labels]) if labels else path.stem
        if not label:
            raise no_label(f"{path}, line {number}", labels, row[labels])
        check_label(label, f"{path}, line {number}: ")
        check_address(row[column], path, number)
        yield Found(
            row[column],
            label,
            query=row.get(query, ""),
            split=pick_split(split, row[column]),
            group=row.get(group, ""),
            credit=credits.read(row),
        )


def _read_lines(lines: list[str], path: Path) -> Iterator[Found]:
    """Yield the address of every line that is not empty or a comment."""
    check_label(path.stem, f"{path}: ")
    for number, line in enumerate(lines, start=1):
        line = line.strip().strip('",').strip()
        if line and not line.startswith("#"):
            check_address(line, path, number)
            yield Found(line, path.stem)


def check_address(text: str, path: Path, number: int) -> None:
    """Raise StageError if a line is not an address.

    The snippet also finds pictures that the page holds in itself (`data:`). They are not
    downloaded, but they are not a mistake either.
    """
    if not re.match(r"[a-z][a-z0-9+.-]*:", text, re.IGNORECASE):
        raise StageError(
            f"{path}, line {number}: {text[:80]!r} is not an address; it should begin with "
            "https:// or http://"
        )
