"""The tables, figures and drawings of stages: CSV, JSON and PNG, written whole or not at all.

The same content gives the same bytes. Tables are read strictly, because people edit them and git
merges them: what is not understood is an error that names the line.
"""

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pandas as pd

from pawprint.params import StageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPLITS = ("train", "valid", "test")  # in tables, in the column `split`
CHUNK = 1 << 20  # bytes of a table that are written at a time
MARKS = ("<", "=", ">", "|")  # how the lines begin that git leaves in a merged file
CONFLICT = re.compile(r"<{7}( |$)|={7}$|>{7}( |$)|\|{7}( |$)")  # those lines


def write_bytes(path: Path | str, content: bytes, durable: bool = False) -> None:
    """Write a file so that a reader, or a killed run, sees the old content or the new, no mixture.

    durable: the content reaches the disk before the file gets its name, for what cannot be made
    again after a power cut.
    """
    write_chunks(path, [content], durable)


def write_chunks(path: Path | str, chunks: Iterable[bytes], durable: bool = False) -> None:
    """Write a file chunk by chunk, as `write_bytes` does: whole or not at all."""
    with replacing(path, durable) as file:
        file.writelines(chunks)


@contextlib.contextmanager
def replacing(path: Path | str, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a file to write that takes the place of `path` at the end, unless there is an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) in ("None", str(temporary)):
            error.filename = str(path)  # a full disk leaves the name out
        raise


class _Lines:
    """Takes lines that end in `\\r\\n` from a CSV writer and keeps them with `\\n`, as UTF-8.

    A writer quotes only the line ends that it uses itself: this way, every `\\r` in a cell.
    """

    def __init__(self) -> None:
        self.buffer = bytearray()

    def write(self, line: str) -> int:
        self.buffer += (line.removesuffix("\r\n") + "\n").encode("utf-8")
        return len(line)


def to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a table as CSV: comma, `\\n` line ends, quotes where they are needed, UTF-8."""
    return b"".join(csv_chunks(header, rows))


def csv_chunks(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """Yield the CSV of `to_csv` in chunks of about CHUNK bytes."""
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(row)
        if len(lines.buffer) >= CHUNK:
            yield bytes(lines.buffer)
            lines.buffer.clear()
    yield bytes(lines.buffer)


def png_of(figure: "Figure", dpi: int = 100) -> bytes:
    """Return a drawing of matplotlib as a PNG, without the version of what has drawn it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def write_table(path: Path | str, table: pd.DataFrame, durable: bool = False) -> None:
    """Write a CSV; floats as the shortest decimal of six significant digits."""
    rows = zip(*(_texts(table[name]) for name in table.columns), strict=True)
    write_chunks(path, csv_chunks(list(map(str, table.columns)), rows), durable)


@dataclass(frozen=True)
class Rows:
    """A table as text. lines: the number of the line on which each row ends."""

    header: list[str]
    rows: list[list[str]]
    lines: list[int]


def parse_rows(content: bytes, where: str, delimiter: str = ",") -> Rows:
    """Parse a CSV strictly: a byte order mark and any line ends are fine, nothing else unusual is.

    Empty lines are skipped. Raises StageError that names the line, for text that is not UTF-8, a
    NUL, a merge conflict, a column named twice, and a row that is not as long as the header.
    """
    refuse_odd_text(content, where)
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    header: list[str] = []
    rows, lines = [], []
    for line, cells in _parse(text, where, delimiter):
        if not header:
            header = cells
        else:
            rows.append(cells)
            lines.append(line)
    return Rows(header, rows, lines)


def iterate_rows(path: Path | str) -> Iterator[list[str]]:
    """Yield the header of a CSV that a stage wrote, then its rows, one at a time.

    For tables that would not fit into memory as text. As strict as `parse_rows`; lines end in
    `\\n`. Raises StageError, and FileNotFoundError if the file is missing.
    """

    def lines() -> Iterator[str]:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace")
                if "\0" in text or "\ufffd" in text or text[:1] in MARKS:
                    refuse_odd_text(line, str(path), number)
                yield text

    for _, cells in _parse(lines(), str(path), ","):
        yield cells


def _parse(lines: Iterable[str], where: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the header and the rows that are not empty, each with the line on which it ends."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cells):
                continue
            if not header:
                header = cells
                _refuse_header(header, where)
            elif len(cells) != len(header):
                raise StageError(
                    f"{where}, line {reader.line_num}: {len(cells)} cells, the header has "
                    f"{len(header)}; put quotes around a cell that holds the delimiter"
                )
            yield reader.line_num, cells
    except csv.Error as error:
        raise StageError(f"{where}, line {reader.line_num}: not CSV ({error})") from None


def _refuse_header(header: list[str], where: str) -> None:
    """Raise StageError if two columns have the same name, or none."""
    twice = [name for name in header if header.count(name) > 1]
    if "" in twice:
        raise StageError(f"{where}, line 1: should name the columns; is the header missing?")
    if twice:
        raise StageError(f"{where}, line 1: the column {twice[0]!r} is named twice")


def refuse_odd_text(content: bytes, where: str, first: int = 1) -> None:
    """Raise StageError that names the first line which is not UTF-8, holds a NUL or a conflict.

    first: the number of the content's first line.
    """
    for number, line in enumerate(content.splitlines(), start=first):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise StageError(f"{where}, line {number}: not UTF-8; save the file as UTF-8") from None
        if "\0" in text:
            raise StageError(f"{where}, line {number}: holds a NUL; the file is damaged")
        if CONFLICT.match(text):
            raise StageError(
                f"{where}, line {number}: {text[:40]!r} is left from a merge; resolve the conflict"
            )


def read_table(path: Path | str, **types: Any) -> pd.DataFrame:
    """Read a CSV. All cells are text; `types` names the columns that are numbers.

    Raises StageError if the file is missing or is not such a table; see `parse_rows`.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise StageError(f"{path} is missing: `dvc repro` makes it") from None
    table = parse_rows(content, str(path))
    try:
        return pd.DataFrame(table.rows, columns=table.header, dtype=str).astype(types)
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise StageError(f"{path} is not the table this stage expects: {reason}") from None


def require_columns(table: pd.DataFrame, names: Iterable[str], where: str) -> None:
    """Raise StageError that names the first column which a table lacks, and those that it has."""
    for name in names:
        if name not in table:
            has = ", ".join(table.columns) or "none"
            raise StageError(f"{where} has no column {name!r}; it has {has}")


def _texts(column: pd.Series) -> Iterable[object]:
    """Return the cells of a column as the CSV writer takes them: floats short, gaps empty."""
    if column.dtype.kind == "f":
        return ("" if value != value else f"{value:.6g}" for value in column)
    return ("" if value != value else value for value in column)


def write_json(path: Path | str, content: Mapping[str, Any], digits: int | None = 6) -> None:
    """Write JSON, indented, numbers rounded to `digits` decimals; None for all of them."""
    plain = _plain(content, digits)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8"))


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON file written by another stage. Raises StageError if it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{path} is missing: `dvc repro` makes it") from None
    except ValueError as error:
        raise StageError(f"{path} is damaged ({error}): `dvc repro` makes it again") from None


def counts(values: Iterable[str]) -> dict[str, int]:
    """Return how often each value occurs, sorted by value."""
    found = pd.Series(list(values), dtype=object).value_counts().sort_index()
    return {str(key): int(n) for key, n in found.items()}


def _plain(value: Any, digits: int | None) -> Any:
    """Return a value as JSON takes it, its numbers rounded."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, digits) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return round(value, digits) if isinstance(value, float) and digits is not None else value
