"""What the modules of the source `hub` share: its options, and a data set's files."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pawprint.params import Params
from pawprint.sources.names import check_path_text

INSTALL = "`pip install huggingface-hub pyarrow` installs it"


class HubOptions(Params):
    """What data/sources/NAME.yaml may say for `kind: hub`.

    dataset: owner/name on the Hub; or path: a folder with the same files, relative to the project.
    Without both it is the folder `gather.path`. config: which of its configurations. split: the
    only split to read; its pictures are then divided by the stage split. image_column and
    label_column: if their names are not clear. revision: a branch, tag or commit. max_unpacked:
    bytes of all files in its archives. max_member: bytes of one picture.
    """

    kind: Literal["hub"]
    dataset: str = ""
    path: str = ""
    config: str = ""
    split: str = ""
    image_column: str = ""
    label_column: str = ""
    revision: str = ""
    max_unpacked: int = Field(default=20_000_000_000, ge=1)
    max_member: int = Field(default=200_000_000, ge=1)

    @field_validator("dataset")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if value and not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", value):
            raise ValueError("should be owner/name, as the data set's page on the Hub shows it")
        return value

    @field_validator("path")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        return check_path_text(value) if value else value

    @model_validator(mode="after")
    def _one_place(self) -> "HubOptions":
        if self.path and (self.dataset or self.revision):
            raise ValueError("says path, a folder, so it should hold neither dataset nor revision")
        return self


@dataclass(frozen=True)
class Repository:
    """The files of a data set. fetch: returns where a file is on this machine, whole.

    name: how messages call it; address: what comes before a file's name in the column url.
    """

    name: str
    address: str
    files: list[str]
    fetch: Callable[[str], Path]
