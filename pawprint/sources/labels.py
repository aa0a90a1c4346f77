"""Labels, splits and groups of files: by their names or by a table, for `folder` and `archive`."""

import hashlib
import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from pydantic import field_validator, model_validator

from pawprint.params import Params, StageError
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources.names import (
    A_VIDEO,
    check_label,
    is_other_picture,
    is_video_name,
    listed,
)
from pawprint.sources.user_tables import parse_user_table

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

    labels: `parent`, the folder that holds a file; `pattern`, a regular expression searched in the
    file's name; `table`, a CSV with the columns file and label, and optionally split and group.
    pattern: the text of its only group, or of its group named `label`, is the label (`^(.+)_\d+`).
    Otherwise the *name* of the group that takes part is the label
    (`^(?:(?P<cat>[A-Z])|(?P<dog>[a-z]))`). A group named `group` fills the column group.
    include: a regular expression; files whose path does not match are left out.
    splits: folder name -> split, for files below such a folder that is above the folder of the
    class. A list of splits shares the folder's files out between them by a hash of the name.
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
        except (re.error, RecursionError, OverflowError) as error:
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
class LabelledFile:
    """A file with what its name, or a table, says of it.

    file: relative to the source's folder, with slashes.
    """

    file: str
    label: str
    split: str = ""
    group: str = ""


def label_files(
    files: list[str], options: LabelOptions, table: bytes, where: str
) -> list[LabelledFile]:
    """Label every file in the order of `files`, or of the table if there is one.

    files: paths relative to the source's folder, with slashes. table: the CSV, used if `labels` is
    table. where: how messages name the source.

    Files that are not pictures by their name and get no label are named on stderr; so are classes
    that `include` leaves out. Raises StageError for a picture without a label.
    """
    if options.labels == "table":
        labelled = _read_labels(options, table, f"{where}: {options.table}")
        _tell_unlisted(files, {row.file for row in labelled}, options, where)
        return labelled
    chosen = [file for file in files if re.search(options.include, file)]
    holders = _folders_with_folders(chosen)
    labelled, without = [], []
    for file in chosen:
        is_picture = looks_like_picture(file) or is_other_picture(file)
        beside_folders = str(PurePosixPath(file).parent) in holders
        if options.labels == "parent" and beside_folders and not is_picture:
            without.append(file)
            continue
        try:
            labelled.append(_label_file(file, options, where))
        except StageError:
            if is_picture:
                raise
            without.append(file)
    _tell_unlabelled(without, where)
    _tell_left_out(files, labelled, options, where)
    return labelled


def missing_format(file: str) -> str:
    """Return why a file is not read as a picture, by its name; "" if it is read."""
    if looks_like_picture(file):
        return ""
    if is_video_name(file):
        return A_VIDEO
    suffix = PurePosixPath(file).suffix.lower()
    if not suffix:
        return "its name does not say that it is a picture"
    return f"its name ends in {suffix}, which is not a picture format that is read"


def _label_file(file: str, options: LabelOptions, where: str) -> LabelledFile:
    """Return a file with its label by folder or by pattern. Raises StageError if it has none."""
    *folders, name = PurePosixPath(file).parts
    if options.labels == "parent":
        if not folders:
            raise StageError(
                f"{where}: {file!r} has no label; put every picture into a folder named after its "
                "class, or set `labels` in the source's yaml"
            )
        return LabelledFile(file, folders[-1], _split_by_folder(folders[:-1], file, options))
    match = re.search(options.pattern, name)
    if match is None:
        raise StageError(
            f"{where}: pattern {options.pattern!r} does not match {file!r}; change the pattern, or "
            "leave the file out by `include`"
        )
    named = match.groupdict()
    group = named.pop("group", None) or ""
    if "label" in named or not named:
        label = named.get("label") or (match[1] if not named else "")
    else:
        label = next((key for key, text in named.items() if text is not None), "")
    if not label:
        raise StageError(f"{where}: pattern {options.pattern!r} gives {file!r} no label")
    return LabelledFile(file, label, _split_by_folder(folders, file, options), group)


def _split_by_folder(folders: list[str], file: str, options: LabelOptions) -> str:
    """Return the split of the nearest folder whose name is in `splits`, or ""."""
    for folder in reversed(folders):
        if folder in options.splits:
            split = options.splits[folder]
            if isinstance(split, str):
                return split
            return split[hashlib.sha256(file.encode()).digest()[0] % len(split)] if split else ""
    return ""


def _read_labels(options: LabelOptions, content: bytes, where: str) -> list[LabelledFile]:
    """Return the rows of a CSV that `include` matches. Raises StageError that names the line."""
    table = parse_user_table(content, where)
    column = next((name for name in FILE_COLUMNS if name in table.columns), "")
    if not column or "label" not in table.columns:
        raise StageError(
            f"{where} has the columns {', '.join(table.columns)}; it should have file and label"
        )
    labelled = []
    for line, row in table.rows:
        file = PurePosixPath(row[column].replace("\\", "/"))
        if not file.name or not row["label"]:
            raise StageError(f"{where}, line {line}: file or label is empty")
        check_label(row["label"], f"{where}, line {line}: ")
        if file.is_absolute() or ".." in file.parts:
            raise StageError(f"{where}, line {line}: {str(file)!r} leads outside the folder")
        if re.search(options.include, str(file)):
            split = row["split"] or _split_by_folder(list(file.parts[:-1]), str(file), options)
            labelled.append(LabelledFile(str(file), row["label"], split, row["group"]))
    counted = Counter((row.file, row.label) for row in labelled)
    for (name, label), number in counted.items():
        if number > 1:
            raise StageError(f"{where} names {name!r} twice as {label!r}; keep one of the two rows")
    return labelled


def _folders_with_folders(files: list[str]) -> set[str]:
    """Return the folders that hold folders with files."""
    return {str(above) for file in files for above in list(PurePosixPath(file).parents)[1:]}


def _tell_unlabelled(files: list[str], where: str) -> None:
    """Name on stderr the files in folders that get no label, which are not pictures by name."""
    inside = [file for file in files if "/" in file]
    if inside:
        logging.warning("%s: no label, so left out: %s", where, listed(inside))


def _tell_left_out(
    files: list[str], labelled: list[LabelledFile], options: LabelOptions, where: str
) -> None:
    """Name on stderr the folders with pictures that `include` leaves out whole."""
    kept = {str(PurePosixPath(row.file).parent) for row in labelled}
    all_folders = {str(PurePosixPath(file).parent) for file in files if looks_like_picture(file)}
    gone = sorted(all_folders - kept)
    if gone:
        logging.warning("%s: `include` leaves out the folders: %s", where, listed(gone))


def _tell_unlisted(files: list[str], named: set[str], options: LabelOptions, where: str) -> None:
    """Name on stderr the pictures that the table does not list."""
    unlisted = [
        file
        for file in files
        if looks_like_picture(file) and file not in named and re.search(options.include, file)
    ]
    if unlisted:
        logging.warning("%s: %s does not list: %s", where, options.table, listed(unlisted))
