"""Faulty pictures in words: dark, light, blurred, nearly empty, or of an odd size or shape.

verify measures them and decides which they are; see pawprint/pictures/properties.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from pawprint.params import StageError
from pawprint.tables import read_table

PROPERTIES = "data/properties.csv"
# kind -> its name, and what is wrong with a row where `usual` is the median of the pictures
TEXTS: dict[str, tuple[str, Callable[[pd.Series, pd.Series], str]]] = {
    "dark": (
        "dark picture",
        lambda row, usual: f"99 % of it is darker than {row.dark_score:.2f}, where 1 is white",
    ),
    "light": (
        "light picture",
        lambda row, usual: (
            f"95 % of it is lighter than {1 - row.light_score:.2f}, where 1 is white"
        ),
    ),
    "blurry": (
        "blurry picture",
        lambda row, usual: f"sharpness {row.sharpness:.2f}, where {usual.sharpness:.2f} is usual",
    ),
    "low_information": (
        "low information",
        lambda row, usual: (
            f"nearly one colour: {row.low_information_score:.2f}, where "
            f"{usual.low_information_score:.2f} is usual"
        ),
    ),
    "odd_size": (
        "odd size",
        lambda row, usual: (
            f"about {row['size']:.0f} pixels a side, where {usual['size']:.0f} is usual"
        ),
    ),
    "odd_aspect_ratio": (
        "odd aspect ratio",
        lambda row, usual: f"one side is {1 / row.aspect_ratio:.1f} times the other",
    ),
}


NUMBERS = (
    *("brightness", "sharpness", "entropy", "size", "aspect_ratio", "grey", "severity"),
    *(f"{kind}_score" for kind in TEXTS),
)


class Fault(NamedTuple):
    """One fault of one picture. score: cleanvision's, 0 to 1, where low is bad."""

    path: str
    kind: str
    detail: str
    score: float


def read_properties(paths: list[str]) -> pd.DataFrame:
    """Return the rows of data/properties.csv with these paths, in this order, indexed by them.

    Raises StageError if the table is not understood, or lacks one of the pictures.
    """
    table = read_table(PROPERTIES, **dict.fromkeys(NUMBERS, float)).set_index("path")
    missing = set(paths) - set(table.index)
    if missing:
        raise StageError(f"{PROPERTIES} lacks {min(missing)}; `dvc repro verify` makes it again")
    return table.loc[paths]


def list_faults(properties: pd.DataFrame) -> list[Fault]:
    """Return the faults of pictures, by kind and the worst first.

    properties: as `read_properties` gives them.
    """
    usual = properties.median(numeric_only=True)
    found = []
    for kind, (name, describe) in TEXTS.items():
        has = properties["faults"].map(lambda faults, kind=kind: kind in faults.split())
        worst = properties[has].sort_values(f"{kind}_score", kind="stable")
        for path, row in worst.iterrows():
            found.append(Fault(path, name, describe(row, usual), row[f"{kind}_score"]))
    return found
