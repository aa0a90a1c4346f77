"""What must survive every run: the sides of the pictures, and a person's decisions.

Both are CSV files in git, one row per picture, sorted, so that two branches merge line by line.
They may be absent, but they are never misread: a file that is there and not understood stops the
run with one line, and nothing rewrites what it could not parse.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pawprint.params import Params, StageError, listed
from pawprint.tables import SPLITS, parse_rows, to_csv, write_bytes

SIDES = Path("data/sides.csv")
DECISIONS = Path("data/decisions.csv")
ACTIONS = ("keep", "delete", "relabel")
DECISION_COLUMNS = ("image", "action", "label", "by", "note")
DRAWN_WITH = ("seed", "valid_pct", "test_pct", "near_duplicates")  # params that move pictures
PHASH = re.compile(r"[0-9a-f]{16}")


class SplitParams(Params):
    """The section `split` of params.yaml."""

    seed: int
    valid_pct: float = Field(gt=0, lt=1)
    test_pct: float = Field(gt=0, lt=1)
    near_duplicates: int = Field(ge=0, le=16)
    rare: Literal["keep", "drop", "fail"] = "keep"

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> "SplitParams":
        if self.valid_pct + self.test_pct >= 0.9:
            raise ValueError(
                "should leave at least 0.1 to train: valid_pct + test_pct must be below 0.9"
            )
        return self

    def drawn_with(self) -> str:
        """Return the params as one cell of data/sides.csv."""
        return " ".join(f"{key}={getattr(self, key)}" for key in DRAWN_WITH)


@dataclass(frozen=True)
class Side:
    """Where a picture belongs for ever.

    image: its name; phash: its perceptual hash, so that a re-encoded copy is known again; group:
    the user's own, or ""; side: train, valid or test; drawn_with: the params of the split.
    """

    image: str
    phash: str
    group: str
    side: str
    drawn_with: str


SIDE_COLUMNS = tuple(field.name for field in fields(Side))


def read_sides(path: Path = SIDES) -> dict[str, Side]:
    """Return every picture's side by its name; nothing if the file is absent.

    Raises StageError that names the line if the file is not understood.
    """
    if not path.exists():
        return {}
    table = parse_rows(path.read_bytes(), str(path))
    if tuple(table.header) != SIDE_COLUMNS:
        expected = ",".join(SIDE_COLUMNS)
        raise StageError(f"{path}, line 1: should be {expected!r}; restore it with `git checkout`")
    sides: dict[str, Side] = {}
    for line, cells in zip(table.lines, table.rows, strict=True):
        side = Side(*cells)
        if side.side not in SPLITS:
            raise StageError(
                f"{path}, line {line}: side is {side.side!r}; it should be {', '.join(SPLITS)}"
            )
        if not side.image or not PHASH.fullmatch(side.phash):
            raise StageError(f"{path}, line {line}: image or phash is not one that split wrote")
        keys = {word.split("=")[0] for word in side.drawn_with.split()}
        if not keys.issuperset(DRAWN_WITH):
            raise StageError(f"{path}, line {line}: drawn_with is cut: {side.drawn_with!r}")
        if sides.get(side.image, side) != side:
            other = sides[side.image]
            raise StageError(
                f"{path}, line {line}: {side.image} is listed twice, as {other.side} and as "
                f"{side.side}; keep one of the two lines"
            )
        sides[side.image] = side
    return sides


def write_sides(sides: dict[str, Side], path: Path = SIDES) -> None:
    """Write the sides, sorted by name."""
    rows = [astuple(sides[image]) for image in sorted(sides)]
    write_bytes(path, to_csv(SIDE_COLUMNS, rows), durable=True)


def read_decisions(
    path: Path = DECISIONS, classes: Sequence[str] | None = None
) -> dict[str, dict[str, str]]:
    """Return every decision by its picture's name; nothing if the file is absent.

    A decision has the keys of DECISION_COLUMNS, "" where the file has none, and any further
    columns of the file. What spreadsheets make of the file is understood: a byte order mark,
    semicolons or tabs, and a header in other case. The last row of a picture counts.
    classes: if given, the labels that a picture may get.
    Raises StageError that names the line if the file is not understood.
    """
    if not path.is_file():
        return {}
    content = path.read_bytes()
    first = content.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0]
    delimiter = max(",;\t", key=lambda each: first.count(each.encode()))
    table = parse_rows(content, str(path), delimiter)
    header = [name.strip().lower() for name in table.header]
    missing = [name for name in ("image", "action") if name not in header]
    if missing and table.header:
        raise StageError(
            f"{path}, line 1: lacks the column {missing[0]}; it should name "
            f"{', '.join(DECISION_COLUMNS)}"
        )
    decisions: dict[str, dict[str, str]] = {}
    for line, cells in zip(table.lines, table.rows, strict=True):
        decision = dict.fromkeys(DECISION_COLUMNS, "") | dict(zip(header, cells, strict=True))
        decision["action"] = decision["action"].strip().lower()
        if not decision["image"]:
            raise StageError(f"{path}, line {line}: image is empty")
        if decision["action"] not in ACTIONS:
            raise StageError(
                f"{path}, line {line}: action is {decision['action']!r}; it should be "
                f"{', '.join(ACTIONS)}"
            )
        if decision["action"] == "relabel" and not decision["label"]:
            raise StageError(f"{path}, line {line}: relabel without a label")
        if decision["action"] == "relabel" and classes and decision["label"] not in classes:
            raise StageError(
                f"{path}, line {line}: label is {decision['label']!r}; "
                f"{suggest_class(decision['label'], classes)}"
            )
        decisions.pop(decision["image"], None)
        decisions[decision["image"]] = decision
    return decisions


def suggest_class(label: str, classes: Sequence[str]) -> str:
    """Return what a label that is no class should be, in one line for any number of classes."""
    near = difflib.get_close_matches(label, classes, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}it should be {listed(classes, most=10)}"


def write_decisions(decisions: dict[str, dict[str, str]], path: Path = DECISIONS) -> None:
    """Write the decisions, sorted by picture. Columns that others added are kept."""
    more = {name: None for row in decisions.values() for name in row}
    header = [*DECISION_COLUMNS, *(name for name in more if name not in DECISION_COLUMNS)]
    rows = [[decisions[image].get(name, "") for name in header] for image in sorted(decisions)]
    write_bytes(path, to_csv(header, rows), durable=True)
