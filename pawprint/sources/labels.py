"""Labels, splits and groups of files by their names: what the sources `folder` and `archive` share."""

import csv
import hashlib
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from pydantic import field_validator, model_validator

from pawprint.params import Params, StageError

Split = Literal["train", "valid", "test"]
SPLIT_FOLDERS: dict[str, Split | list[Split]] = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "test": "test",
}
FILE_COLUMNS = ("file", "name", "path", "filename", "image")


class LabelOptions(Params):
    r"""How a file gets its label; part of what data/sources/NAME.yaml may say.

    labels: `parent`, the folder a file stands in; `pattern`, a regular expression searched in the file's name; `table`,
    a CSV with the columns file and label, and optionally split and group.
    pattern: the text of its only group, or of its group named `label`, is the label (`^(.+)_\d+`). Otherwise the *name*
    of the group that takes part is the label (`^(?:(?P<cat>[A-Z])|(?P<dog>[a-z]))`). A group named `group` fills the
    column group.
    include: a regular expression; files whose path does not match are passed over.
    splits: folder name -> split for files below such a folder, above the folder of the class. A list of splits shares
    the folder's files out between them by a hash of the name.
    """

    labels: Literal["parent", "pattern", "table"] = "parent"
    pattern: str = ""
    table: str = ""
    include: str = ""
    splits: dict[str, Split | list[Split]] = SPLIT_FOLDERS

    @field_validator("pattern", "include")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"should be a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _belongs_together(self) -> "LabelOptions":
        if self.labels in ("pattern", "table") and not getattr(self, self.labels):
            raise ValueError(
                f"says labels: {self.labels}, so it should hold the key {self.labels} too"
            )
        if self.labels == "pattern" and not re.compile(self.pattern).groups:
            raise ValueError(
                "says labels: pattern, so its pattern should have a group, as in ^(.+)_[0-9]+"
            )
        return self


@dataclass(frozen=True)
class Labelled:
    """A file with what its name, or a table, says of it. file: relative to the source's folder, with slashes."""

    file: str
    label: str
    split: str = ""
    group: str = ""


def label_all(files: list[str], options: LabelOptions, table: str, where: str) -> list[Labelled]:
    """Label every file in the order of `files`, or of the table if there is one.

    files: paths relative to the source's folder, with slashes. table: the text of the CSV, "" unless labels is table.
    where: how messages name the source. Raises StageError for a file without a label.
    """
    chosen = [file for file in files if re.search(options.include, file)]
    if options.labels == "table":
        return from_table(options, table, f"{where}: {options.table}")
    return [label_one(file, options, where) for file in chosen]


def label_one(file: str, options: LabelOptions, where: str) -> Labelled:
    *folders, name = PurePosixPath(file).parts
    if options.labels == "parent":
        if not folders:
            raise StageError(
                f"{where}: {file} has no label; put every picture into a folder named after its class"
            )
        return Labelled(file, folders[-1], split_of(folders[:-1], file, options))
    match = re.search(options.pattern, name)
    if match is None:
        raise StageError(
            f"{where}: pattern {options.pattern!r} does not match {file}; mend it, or narrow `include`"
        )
    named = match.groupdict()
    group = named.pop("group", None) or ""
    if "label" in named or not named:
        label = named.get("label") or (match[1] if not named else "")
    else:
        label = next((key for key, text in named.items() if text is not None), "")
    if not label:
        raise StageError(f"{where}: pattern {options.pattern!r} gives {file} no label")
    return Labelled(file, label, split_of(folders, file, options), group)


def split_of(folders: list[str], file: str, options: LabelOptions) -> str:
    """The split that the nearest folder with a name in `splits` stands for."""
    for folder in reversed(folders):
        if folder in options.splits:
            split = options.splits[folder]
            if isinstance(split, str):
                return split
            return split[hashlib.sha256(file.encode()).digest()[0] % len(split)] if split else ""
    return ""


def from_table(options: LabelOptions, table: str, where: str) -> list[Labelled]:
    """The rows of a CSV whose file is there, or should be: a picture that is missing is reported where it is read."""
    reader = csv.DictReader(io.StringIO(table))
    columns = [name.strip().lower() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    column = next((name for name in FILE_COLUMNS if name in columns), "")
    if not column or "label" not in columns:
        raise StageError(
            f"{where} has the columns {', '.join(columns)}; it should have file and label"
        )
    rows = []
    for number, row in enumerate(reader, start=2):
        file = PurePosixPath((row[column] or "").strip().replace("\\", "/"))
        label = (row["label"] or "").strip()
        if not file.name or not label:
            raise StageError(f"{where}, line {number}: file or label is empty")
        if file.is_absolute() or ".." in file.parts:
            raise StageError(f"{where}, line {number}: {file} leads outside the folder")
        if re.search(options.include, file.as_posix()):
            split = (row.get("split") or "").strip() or split_of(
                list(file.parts[:-1]), file.as_posix(), options
            )
            rows.append(Labelled(file.as_posix(), label, split, (row.get("group") or "").strip()))
    twice = [file for file, n in Counter((row.file, row.label) for row in rows).items() if n > 1]
    if twice:
        raise StageError(
            f"{where} names {twice[0][0]} twice as {twice[0][1]}; every file should stand in it once"
        )
    return rows
