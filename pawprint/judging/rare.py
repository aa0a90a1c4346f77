"""Rare classes: those without a picture in some split, and what is done about them.

A class's first group of near duplicates trains, its second is tested, its third validates: a class
that does not train cannot be recognised, and a figure on test is worth more than one on valid.
Where a class has no picture, its error is not measured; see `split.rare`.
"""

import sys

import pandas as pd

from pawprint.params import StageError, listed
from pawprint.tables import SPLITS

ORDER = ("train", "test", "valid")  # in which a class of few groups gets pictures


def find_rare(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return the classes that lack pictures in a split, sorted, and the splits that they lack.

    table: columns label and split, "" for a picture that is left out.
    """
    counts = pd.crosstab(table["label"], table["split"]).reindex(columns=SPLITS, fill_value=0)
    lacks = {
        str(row.Index): [split for split in SPLITS if not getattr(row, split)]
        for row in counts.itertuples()
    }
    return {label: splits for label, splits in lacks.items() if splits}


def choose_left_out(rare: dict[str, list[str]], policy: str) -> dict[str, str]:
    """Return the classes that are left out, and why: all rare ones, or those that never train.

    rare: from `find_rare`; policy: `split.rare`.
    """
    return {
        label: f"its class has no picture in {' and '.join(splits)}"
        for label, splits in rare.items()
        if policy == "drop" or "train" in splits
    }


def refuse_empty_splits(table: pd.DataFrame, left_out: dict[str, str]) -> None:
    """Raise StageError if fewer than two classes train, or if no class validates or is tested.

    table: columns label and split, of the classes that stay; left_out: from `choose_left_out`.
    """
    gone = f" ({len(left_out)} left out: {name_reasons(left_out)})" if left_out else ""
    classes = table.loc[table["split"] == "train", "label"].nunique()
    if classes < 2:
        raise StageError(
            f"classes with pictures in train: {classes}, and a classifier needs two{gone}; gather "
            "more, give pictures another split, or see split.rare"
        )
    for number, split in enumerate(ORDER[1:], start=2):
        if not (table["split"] == split).any():
            raise StageError(
                f"no class has a picture in {split}{gone}: that takes {number} pictures of a class "
                "that are not near duplicates of each other; gather more"
            )


def say_rare(rare: dict[str, list[str]], left_out: dict[str, str]) -> None:
    """Say on stderr which classes are rare, and which of them are left out."""
    for split in ("valid", "test"):
        names = without(split, rare, left_out)
        if names:
            print(
                f"split: {len(names)} class(es) without a picture in {split}, where their error "
                f"is not measured: {listed(names)}",
                file=sys.stderr,
            )
    if left_out:
        print(
            f"split: {len(left_out)} class(es) left out, see data/left_out.csv: "
            f"{name_reasons(left_out)}",
            file=sys.stderr,
        )


def name_reasons(left_out: dict[str, str]) -> str:
    """Return the classes that are left out and why, in one line."""
    return listed([f"{label} ({why})" for label, why in left_out.items()])


def without(split: str, rare: dict[str, list[str]], left_out: dict[str, str]) -> list[str]:
    """Return the classes that stay and have no picture in a split."""
    return [label for label, lacks in rare.items() if split in lacks and label not in left_out]
