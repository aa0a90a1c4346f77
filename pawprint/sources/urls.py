"""Source `urls`: addresses in text or CSV files, one file a class or one for all.

The Google Images console snippet of the lesson notes saves one address a line under the name of your choice: such files
are read as they are, `bears/black.csv` gives the class black.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from pawprint.params import Params, StageError
from pawprint.sources import Found
from pawprint.sources.folder import read_list

ADDRESS_COLUMNS = ("url", "address", "image", "image_url", "link")


class UrlsOptions(Params):
    """What data/sources/NAME.yaml may say for `kind: urls`.

    files: lists to read, relative to `gather.path`; empty takes every .txt and .csv there, in the order of their names.
    """

    kind: Literal["urls"]
    files: list[str] = Field(default_factory=list)


def found(options: UrlsOptions, root: Path) -> Iterator[Found]:
    """Yield every address once a label, in the order of the lists.

    root: `gather.path`, a folder with lists or a single list.
    Raises StageError for a list that is missing, or a line that is no address.
    """
    seen: set[tuple[str, str]] = set()
    paths = lists(options, root)
    for path in paths:
        for item in read_addresses(path):
            if (item.url, item.label) not in seen:
                seen.add((item.url, item.label))
                yield item
    if not seen:
        raise StageError(f"gather.path: the lists in '{root}' hold no addresses; write one a line")


def fingerprint(options: UrlsOptions, root: Path) -> str:
    """Changes when a list does: the lock then no longer fits, and the lists are read anew."""
    contents = [
        (path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in lists(options, root)
    ]
    return str(contents)


def lists(options: UrlsOptions, root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    paths = [root / name for name in options.files]
    paths = paths or sorted(
        path for path in root.glob("*") if path.suffix.lower() in (".txt", ".csv")
    )
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        what = missing[0] if missing else f"a .txt or .csv file in '{root}'"
        raise StageError(
            f"gather.path: {what} is missing; put a list there, one address a line, a file a class"
        )
    return paths


def read_addresses(path: Path) -> Iterator[Found]:
    """The addresses of one list. With a header that names a column for addresses it is a table; its label column, or
    else the file's name, gives the label. Without one, each line is an address."""
    text = read_list(path)
    reader = csv.reader(io.StringIO(text, newline=None))
    header = [cell.strip().lower() for cell in next(reader, [])]
    column = next((name for name in ADDRESS_COLUMNS if name in header), None)
    if column is None:
        yield from read_lines(text, path)
        return
    for cells in reader:
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        if not any(row.values()):
            continue
        label = row.get("label", "") if "label" in header else path.stem
        if not label:
            raise StageError(f"{path}, line {reader.line_num}: the label is empty")
        address = check_address(row[column], path, reader.line_num)
        split, group = row.get("split", ""), row.get("group", "")
        yield Found(address, label, query=row.get("query", ""), split=split, group=group)


def read_lines(text: str, path: Path) -> Iterator[Found]:
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip().strip('",').strip()
        if line and not line.startswith("#"):
            yield Found(check_address(line, path, number), path.stem)


def check_address(text: str, path: Path, number: int) -> str:
    # The snippet also finds pictures that the page holds in itself; they are no addresses, but no mistake either.
    if re.match(r"[a-z][a-z0-9+.-]*:", text, re.IGNORECASE):
        return text
    raise StageError(
        f"{path}, line {number}: {text[:80]!r} is no address; it should begin with https:// or http://"
    )
