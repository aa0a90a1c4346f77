"""Tables and lists that a person wrote: read strictly, whichever program saved them.

Columns are known by many names, and others are named in the source's yaml.
"""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from pawprint.params import Params, StageError, listed
from pawprint.sources.licences import CreditColumns, find_credit_columns
from pawprint.sources.names import yaml_word
from pawprint.sources.splits import flag_of, split_of, split_of_flag
from pawprint.tables import SPLITS, parse_rows

# Names of columns without spaces and signs; where a table has several, the first of them counts.
FILE_NAMES = (
    *("file", "filename", "filepath", "path", "image", "imagepath", "imagename", "imagefile"),
    *("imagefilename", "img", "imgpath", "imgname", "imgfile", "picture", "photo", "fname"),
    *("imageid", "imgid", "pictureid", "photoid", "fileid", "imageindex", "idcode", "name"),
    *("filenames", "filepaths", "files", "paths", "images", "imagepaths", "imagenames"),
    *("id", "uuid", "uid"),
)
LABEL_NAMES = (
    *("labelname", "classname", "categoryname", "label", "class", "category", "breed", "species"),
    *("target", "labels", "classlabel", "classes", "categories", "tag", "tags", "diagnosis", "dx"),
    *("variety", "genus", "type", "level", "targets", "labelid", "classid", "categoryid"),
)
SPLIT_NAMES = ("split", "splits", "splitname", "datasplit", "datasetsplit", "traintestsplit")
# They count only if every cell means a split: a set may be any set, a fold a number.
MAYBE_SPLIT_NAMES = (
    *("fold", "folds", "kfold", "set", "subset", "partition", "phase", "usage", "settype"),
    *("dataset", "datasettype", "imageset", "purpose", "mode", "part"),
)
# What pandas and R write into a cell without a value, and pandas reads as one.
MISSING = (
    *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)

Split = Literal["train", "valid", "test"]


def as_words(value: object) -> object:
    """Return a mapping with its keys as words: a column may hold numbers or truth values.

    Raises ValueError, for pydantic, for a word that is given no split.
    """
    if not isinstance(value, dict):
        return value
    for split in value.values():
        if not all(each in SPLITS for each in (split if isinstance(split, list) else [split])):
            raise ValueError(f"should give each word {', '.join(SPLITS)} or a list of them")
    return {str(key): split for key, split in value.items()}


Splits = Annotated[dict[str, Split | list[Split]], BeforeValidator(as_words)]


class ColumnOptions(Params):
    """The columns of a table, where their names are not known ones; "" if they are.

    not_missing: those of the words in MISSING that are names of classes here.
    """

    added: ClassVar[tuple[str, ...]] = (
        *("file_column", "label_column", "split_column", "group_column"),
        *("licence_column", "author_column", "page_column", "not_missing"),
    )
    file_column: str = ""
    label_column: str = ""
    split_column: str = ""
    group_column: str = ""
    licence_column: str = ""
    author_column: str = ""
    page_column: str = ""
    not_missing: list[str] = Field(default_factory=list)

    @field_validator(
        *("file_column", "label_column", "split_column", "group_column"),
        *("licence_column", "author_column", "page_column"),
    )
    @classmethod
    def _stripped(cls, value: str) -> str:
        return value.strip()

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out keys that are not given and came later: older yamls keep hash and lock."""
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if value or key not in self.added}

    def read_label(self, cell: str) -> str:
        """Return the label that a cell holds, "" for a word that means a missing one."""
        return "" if cell in MISSING and cell not in self.not_missing else cell

    def credit_columns(self, table: "UserTable", but: Sequence[str] = ()) -> CreditColumns:
        """Return which columns hold licence, author and page: those named here, or by known names.

        but: columns that are something else. Raises StageError if a named one is absent.
        """
        found = find_credit_columns(table.columns, but)
        named = {
            key: table.find((), getattr(self, f"{key}_column"), f"{key}_column")
            for key in ("licence", "author", "page")
        }
        return replace(found, **{key: name for key, name in named.items() if name})


@dataclass(frozen=True)
class UserTable:
    """A table with a header, named `where` in messages.

    columns: as they are written; one without a name is `column 1`, or the number where it is.
    rows: the line on which each row ends, and its cells by column. Neither has spaces at its ends.
    """

    where: str
    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]

    def find(self, known: Sequence[str], named: str = "", key: str = "") -> str:
        """Return the first column that `find_all` finds, or ""."""
        return next(iter(self.find_all(known, named, key)), "")

    def find_all(self, known: Sequence[str], named: str = "", key: str = "") -> list[str]:
        """Return the column of the name that the yaml gives under `key`, or all of known names.

        known: squeezed names, the likeliest first. Raises StageError if the table has no column of
        the given name.
        """
        if named:
            fits = [name for name in self.columns if name.lower() == named.lower()]
            if not fits:
                raise StageError(
                    f"{self.where} has the columns {', '.join(self.columns)}; the source's yaml "
                    f"says {key}: {named}"
                )
            return fits
        squeezed = {squeeze(name): name for name in reversed(self.columns)}
        return [squeezed[name] for name in known if name in squeezed]

    def cells(self, column: str) -> list[str]:
        """Return a column's cells, from the first row to the last; empty ones if it is ""."""
        return [cells.get(column, "") for _, cells in self.rows]


def no_label(where: str, column: str, cell: str) -> StageError:
    """Return the error for a row without a label. where: its table and line; cell: what it has."""
    if not cell:
        return StageError(f"{where}: the label is empty")
    return StageError(
        f"{where}: {column} is {cell!r}, which usually means a missing label; correct the row or "
        f"take it out; if it is the name of a class, write `not_missing: [{yaml_word(cell)}]` into "
        "the source's yaml"
    )


def squeeze(name: str) -> str:
    """Return a column's name in small letters, without spaces and signs."""
    return re.sub(r"[\W_]+", "", name.lower())


def parse_user_table(content: bytes, where: str) -> UserTable:
    """Parse a CSV that a person or a spreadsheet wrote.

    A byte order mark, any line ends, semicolons, tabs or bars are understood; rows without any cell
    are left out. Raises StageError that names the line for all else; see `parse_rows`.
    """
    # Excel's own first line names the delimiter; its line end stays, so that line numbers are right
    content = re.sub(rb"^(?:\xef\xbb\xbf)?\"?sep=.\"?[;,\t]*(?=[\r\n])", b"", content)
    first = content.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0].split(b"\r", 1)[0]
    delimiter = max(",;\t|", key=lambda each: first.count(each.encode()))
    table = parse_rows(content, where, delimiter)
    named = enumerate(map(str.strip, table.header), start=1)
    columns = [name or f"column {number}" for number, name in named]
    lower = [name.lower() for name in columns]
    twice = [name for name in lower if lower.count(name) > 1]
    if twice:
        raise StageError(f"{where}, line 1: the column {twice[0]!r} is named twice")
    rows = []
    for line, cells in zip(table.lines, table.rows, strict=True):
        row = dict(zip(columns, map(str.strip, cells), strict=True))
        if any(row.values()):
            rows.append((line, row))
    return UserTable(where, columns, rows)


def pick_split(splits: Any, name: str) -> str:
    """Return a split, or of a list of splits the one that the hash of a picture's name gives."""
    if isinstance(splits, str):
        return splits
    return splits[hashlib.sha256(name.encode()).digest()[0] % len(splits)] if splits else ""


def read_splits(table: UserTable, named: str, given: Mapping[str, Any]) -> list[Any]:
    """Return the split of every row: train, valid, test, or "" where the table says none.

    named: the column that the source's yaml names, or "". given: what it says that words mean; for
    them, the list returned holds what `given` holds. Raises StageError that names the line and the
    word that is not understood.
    """
    column = table.find(SPLIT_NAMES, named, "split_column")
    if column:
        flag = flag_of(column)
        splits = [_meaning(cell, flag, given) for cell in table.cells(column)]
        odd = {
            cells[column]: line
            for (line, cells), split in reversed(list(zip(table.rows, splits, strict=True)))
            if split is None
        }
        if odd:
            word, line = min(odd.items(), key=lambda each: each[1])
            advice = ", ".join(f"{yaml_word(each)}: train" for each in sorted(odd)[:4])
            more = ", …" if len(odd) > 4 else ""
            raise StageError(
                f"{table.where}, line {line}: {column} is {word!r}; it should be "
                f"{', '.join(SPLITS)} or empty; write `splits: {{{advice}{more}}}` (train, valid "
                "or test for each) into the source's yaml"
            )
        return splits
    flags = {name: flag for name in table.columns if (flag := flag_of(name))}
    if flags:
        return [_split_of_flags(line, cells, flags, table) for line, cells in table.rows]
    return _maybe_splits(table, given)


def _meaning(cell: str, flag: str, given: Mapping[str, Any]) -> Any:
    """Return what a cell means; "" if it is empty, None if it is not understood."""
    if not cell:
        return ""
    words = {word.lower(): split for word, split in given.items()}
    return words.get(cell.lower()) or split_of(cell) or split_of_flag(flag, cell) or None


def _split_of_flags(
    line: int, cells: Mapping[str, str], flags: Mapping[str, str], table: UserTable
) -> str:
    """Return the split of a row by its columns of yes and no, such as is_valid and is_test."""
    said = {}
    for name, flag in flags.items():
        split = split_of_flag(flag, cells[name])
        if cells[name] and not split:
            raise StageError(
                f"{table.where}, line {line}: {name} is {cells[name]!r}; it should be true, false "
                "or empty"
            )
        said[flag] = split
    yes = [flag for flag, split in said.items() if flag == split]
    if yes or len(said) == 1 or not all(said.values()):
        return next((split for split in [*yes, *said.values()] if split), "")
    # all columns say no: it is the split that has none
    return next((split for split in SPLITS if split not in said), "")


def _maybe_splits(table: UserTable, given: Mapping[str, Any]) -> list[Any]:
    """Return the splits of a column that may hold some; if it does not, say so on stderr."""
    column = table.find(MAYBE_SPLIT_NAMES)
    splits = [_meaning(cell, "", given) for cell in table.cells(column)]
    unknown = sorted(
        {cell for cell in table.cells(column) if cell and not _meaning(cell, "", given)}
    )
    if not unknown:
        return splits
    if any(splits) or squeeze(column).endswith(("fold", "folds")):
        logging.warning(
            "%s: the column %s holds %s, which name no split, so it is not used; to use it, write "
            "`splits: {%s: test}` and so on into the source's yaml, or else `split_column`",
            table.where,
            column,
            listed(unknown),
            yaml_word(unknown[0]),
        )
    return [""] * len(splits)


def read_list(path: Path) -> bytes:
    """Return the content of a list or table. Raises StageError if it is missing."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise StageError(f"{path} is missing; write it, or change the source's yaml") from None
