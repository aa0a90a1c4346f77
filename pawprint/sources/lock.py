"""data/gathered.csv, the lock: which pictures belong to the data, with their SHA-256.

The web changes and a commit must not. While the lock belongs to the source, exactly its pictures
are fetched again. It is kept in git, so people edit it and git merges it. It may be absent, but it
is never misread: a lock that is not understood stops the run, and nothing rewrites it.
"""

import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pawprint.params import StageError
from pawprint.sources.licences import WITHHELD, normal_licence
from pawprint.sources.names import check_label
from pawprint.tables import SPLITS, parse_rows, to_csv, write_bytes

LOCK = Path("data/gathered.csv")
RAW = Path("data/raw")
ADDED = "gather.added"  # the source of the pictures that join those of any other
STATUSES = (
    *("ok", "gone", "changed", "not a picture", "refused", "failed", "incomplete", WITHHELD),
)
SHA256 = re.compile(r"[0-9a-f]{64}")
SOURCE = re.compile(r".+:[0-9a-f]{12}", re.DOTALL)
ADVICE = "restore the file with `git checkout`, or delete it to search again"


@dataclass(frozen=True)
class Row:
    """One picture of data/gathered.csv; the fields are its columns.

    path: data/raw/LABEL/NAME, "" if there never was a picture; label: its class; url: where it
    comes from; query: the search that found it; sha256, bytes, type: of its content; status: one
    of STATUSES, and reason: why it is not ok; split, group: the user's own; source: the source's
    name and a hash of what decides what it finds; licence, author, page: whose picture it is.
    """

    path: str = ""
    label: str = ""
    url: str = ""
    query: str = ""
    sha256: str = ""
    bytes: int = 0
    type: str = ""
    status: str = "ok"
    reason: str = ""
    split: str = ""
    group: str = ""
    source: str = ""
    licence: str = ""
    author: str = ""
    page: str = ""


ALL_COLUMNS = tuple(field.name for field in fields(Row))
CREDITS = ("licence", "author", "page")  # in the file only if a row has one of them
COLUMNS = ALL_COLUMNS[: -len(CREDITS)]


def read_lock() -> list[Row]:
    """Return the rows of data/gathered.csv; none if the file is absent.

    Raises StageError that names the line if the file is not understood.
    """
    if not LOCK.exists():
        return []
    table = parse_rows(LOCK.read_bytes(), str(LOCK))
    if tuple(table.header) not in (COLUMNS, ALL_COLUMNS):
        raise StageError(f"{LOCK}, line 1: should be {','.join(COLUMNS)!r}; {ADVICE}")
    if not table.rows:
        raise StageError(f"{LOCK}: it lists no pictures; {ADVICE}")
    rows: list[Row] = []
    hashes: dict[tuple[str, str], str] = {}
    for line, cells in zip(table.lines, table.rows, strict=True):
        row = _parse_row(dict(zip(table.header, cells, strict=True)), f"{LOCK}, line {line}: ")
        if hashes.setdefault((row.url, row.label), row.sha256) != row.sha256:
            raise StageError(
                f"{LOCK}, line {line}: {row.url!r} is listed with two hashes; {ADVICE}"
            )
        if rows and row.source != rows[0].source and not is_added(row):
            raise StageError(
                f"{LOCK}, line {line}: its source is {row.source!r}, that of the first row "
                f"{rows[0].source!r}; {ADVICE}"
            )
        rows.append(row)
    return rows


def is_added(row: Row) -> bool:
    """Return whether a picture is one of `gather.added`, which are beside any source."""
    return row.source.startswith(f"{ADDED}:")


def write_lock(rows: Iterable[Row], path: Path = LOCK) -> None:
    """Write the rows so that they survive a power cut.

    The columns of CREDITS are left out if no row has them, so the lock of a source that says
    nothing of licences is as it always was.
    """
    rows = list(rows)
    has_credits = any(getattr(row, name) for row in rows for name in CREDITS)
    columns = ALL_COLUMNS if has_credits else COLUMNS
    cells = (astuple(row)[: len(columns)] for row in rows)
    write_bytes(path, to_csv(columns, cells), durable=True)


def update_row(row: Row, now: Row | None) -> Row:
    """Return a row of the lock with the status that fetching it again ended in.

    now: the row of that fetch; None if the source no longer offers the picture. The hash is kept,
    so that a picture which comes back is known. A row without one gets that of its first picture.
    """
    if now is None:
        return replace(row, status="gone", reason="the archive no longer holds it")
    if not row.sha256:
        came = {name: getattr(now, name) for name in ("path", "sha256", "bytes", "type")}
        return replace(row, status=now.status, reason=now.reason, **came)
    if now.status != "ok":
        status = "gone" if now.status == "not a picture" else now.status
        return replace(row, status=status, reason=now.reason)
    if now.sha256 != row.sha256:
        return replace(row, status="changed", reason=f"its sha256 is now {now.sha256}")
    return replace(row, status="ok", reason="")


def _parse_row(cells: dict[str, str], where: str) -> Row:
    """Return the row that the cells of a line hold. Raises StageError that says what is wrong."""
    check_label(cells["label"], where)
    path, sha256 = PurePosixPath(cells["path"]), cells["sha256"]
    problem = ""
    if cells["status"] not in STATUSES:
        problem = f"status is {cells['status']!r}; it should be {', '.join(STATUSES)}"
    elif sha256 and not SHA256.fullmatch(sha256):
        problem = f"sha256 is {sha256[:80]!r}; it should be 64 hex digits"
    elif not re.fullmatch("[0-9]{1,18}", cells["bytes"]):
        problem = f"bytes is {cells['bytes'][:80]!r}; it should be a whole number"
    elif cells["split"] not in ("", *SPLITS):
        problem = f"split is {cells['split']!r}; it should be {', '.join(SPLITS)} or empty"
    elif not SOURCE.fullmatch(cells["source"]):
        problem = f"source is {cells['source']!r}; it should be a name, a colon and 12 hex digits"
    elif bool(cells["path"]) != bool(sha256) or (cells["status"] == "ok" and not sha256):
        problem = "path and sha256 belong together, and a picture that is ok has both"
    elif cells["path"] and (
        path.as_posix() != cells["path"]
        or path.parent != PurePosixPath(RAW) / cells["label"]
        or path.stem != sha256[:16]
    ):
        problem = f"path is {cells['path'][:200]!r}; it should be {RAW}/LABEL/ and the hash"
    if problem:
        raise StageError(f"{where}{problem}; {ADVICE}")
    values: dict[str, Any] = {**cells, "bytes": int(cells["bytes"])}
    values["licence"] = normal_licence(cells.get("licence", ""))
    return Row(**values)
