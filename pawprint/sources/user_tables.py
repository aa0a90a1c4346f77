"""Tables and lists that a person wrote: read strictly, whichever program saved them."""

from dataclasses import dataclass
from pathlib import Path

from pawprint.params import StageError
from pawprint.tables import SPLITS, parse_rows


@dataclass(frozen=True)
class UserTable:
    """A table with a header. rows: the line on which each row ends, and its cells by column.

    Columns are in small letters, cells without spaces at their ends. The columns split and group
    are always there, empty if the file has none.
    """

    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]


def parse_user_table(content: bytes, where: str) -> UserTable:
    """Parse a CSV that a person or a spreadsheet wrote.

    A byte order mark, any line ends, semicolons or tabs, and a header in other case are understood.
    Raises StageError that names the line for all else; see `parse_rows`.
    """
    first = content.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0].split(b"\r", 1)[0]
    delimiter = max(",;\t", key=lambda each: first.count(each.encode()))
    table = parse_rows(content, where, delimiter)
    columns = [name.strip().lower() for name in table.header]
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise StageError(f"{where}, line 1: the column {twice[0]!r} is named twice")
    rows = []
    for line, cells in zip(table.lines, table.rows, strict=True):
        row = {"split": "", "group": ""}
        row.update(zip(columns, map(str.strip, cells), strict=True))
        if row["split"] not in ("", *SPLITS):
            raise StageError(
                f"{where}, line {line}: split is {row['split']!r}; it should be "
                f"{', '.join(SPLITS)} or empty"
            )
        if any(row.values()):
            rows.append((line, row))
    return UserTable(columns, rows)


def read_list(path: Path) -> bytes:
    """Return the content of a list or table. Raises StageError if it is missing."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise StageError(f"{path} is missing; write it, or change the source's yaml") from None
