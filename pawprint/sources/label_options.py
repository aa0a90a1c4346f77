"""What a source's yaml may say of labels, splits and groups, for `folder` and `archive`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import field_validator, model_validator

from pawprint.sources import UNCREDITED, Credit
from pawprint.sources.splits import UNLABELLED, is_container, meaning_of
from pawprint.sources.user_tables import ColumnOptions, Split, Splits, pick_split

# The default: then `splits.meaning_of` says what a word means, in these and other clothes.
SPLIT_FOLDERS: Splits = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "test": "test",
}


class LabelOptions(ColumnOptions):
    r"""How a file gets its label; part of what data/sources/NAME.yaml may say.

    labels: `parent`, the folder that holds a file; `pattern`, a regular expression searched in the
    file's name; `table`, a CSV with a column for the file and one for the label, or a column of 0
    and 1 per class, and optionally for split and group.
    pattern: the text of its only group, or of its group named `label`, is the label (`^(.+)_\d+`).
    Otherwise the *name* of the group that takes part is the label
    (`^(?:(?P<cat>[A-Z])|(?P<dog>[a-z]))`). A group named `group` fills the column group.
    table: its path below the source's folder, or a list of paths. A name alone that is not there
    stands for every table of that name further down.
    include: a regular expression; files whose path does not match are left out.
    splits: word -> split, for names of folders above that of the class, and for cells of the
    table's column split. A list of splits shares the pictures out between them by a hash of the
    name. By default, the words that `splits.meaning_of` knows; {}: no folder is a split, and the
    folder that holds a file is its class.
    file_column, label_column, split_column, group_column, licence_column, author_column,
    page_column: the table's, if they have other names than those of `user_tables` and `licences`.
    not_missing: words such as NA that are names of classes in the table.
    """

    labels: Literal["parent", "pattern", "table"] = "parent"
    pattern: str = ""
    table: str | list[str] = ""
    include: str = ""
    splits: Splits = SPLIT_FOLDERS

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

    @property
    def given_splits(self) -> Mapping[str, Split | list[Split]]:
        """What the yaml says that words mean; nothing if it leaves that to `meaning_of`."""
        return self.splits if "splits" in self.model_fields_set else {}

    def meaning_of(self, folder: str) -> str:
        """Return what a folder's name means: a split, UNLABELLED, or "" if it may be a class's."""
        if "splits" not in self.model_fields_set:
            return meaning_of(folder)
        split = self.splits.get(folder, "")
        return split if isinstance(split, str) else "several"

    def is_container(self, folder: str) -> bool:
        """Return whether a folder's name says that it holds pictures, but not of what."""
        return bool(self.splits) and is_container(folder)

    def split_of_folders(self, folders: Sequence[str], file: str) -> str:
        """Return the split of the nearest folder whose name means one, or ""."""
        for folder in reversed(folders):
            meaning = self.meaning_of(folder)
            if meaning and meaning != UNLABELLED:
                return pick_split(self.given_splits.get(folder, meaning), file)
        return ""


@dataclass(frozen=True)
class LabelledFile:
    """A file with what its name, or a table, says of it.

    file: relative to the source's folder, with slashes. missing: why there is no such file, or "".
    credit: whose picture it is.
    """

    file: str
    label: str
    split: str = ""
    group: str = ""
    missing: str = ""
    credit: Credit = UNCREDITED
