"""What `clean` and `recipe` share: folders of photos, a split per seed, and rows that are kept."""

import argparse
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.project import ProjectCopy
from pawprint.tables import write_table

Row = dict[str, Any]
Run = tuple[Any, ...]  # what tells one run from another


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of what both are told: folders, --seeds, --test and --results."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=resolved, nargs="+", metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--test", action="store_true", help="also count the errors on test")
    parser.add_argument("--results", type=resolved, help="a CSV file of rows: read, and added to")
    return parser


def resolved(path: str) -> Path:
    """Return a path from the root."""
    return Path(path).resolve()


def split(project: ProjectCopy, seed: int) -> None:
    """Draw the split of a seed, as if no picture had had a side before."""
    project.edit(**{"split.seed": seed})
    Path("data/sides.csv").unlink(missing_ok=True)
    project.stage("split")


class Results:
    """Rows of a benchmark, kept in a CSV file after each run, so that a stopped one goes on.

    path: the file; None: the rows are not kept. keys: the columns that tell one run from another.
    """

    def __init__(self, path: Path | None, keys: tuple[str, ...]) -> None:
        self.path, self.keys = path, keys
        is_there = path is not None and path.exists()
        self.rows: list[Row] = pd.read_csv(path).to_dict("records") if is_there else []

    def run_of(self, row: Row) -> Run:
        """Return which run a row is of."""
        return tuple(row[key] for key in self.keys)

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """Return those of the runs that have no row yet."""
        known = {self.run_of(row) for row in self.rows}
        return [run for run in runs if run not in known]

    def add(self, rows: Iterable[Row]) -> None:
        """Add the rows of a run."""
        self.rows += rows
        if self.path is not None:
            write_table(self.path, pd.DataFrame(self.rows))

    def show(
        self, table: Callable[[pd.DataFrame, str], str], runs: Collection[Run], with_test: bool
    ) -> None:
        """Print a table of the runs' rows for valid, and for test."""
        frame = pd.DataFrame([row for row in self.rows if self.run_of(row) in runs])
        for side in ("valid", "test") if with_test else ("valid",):
            print(f"wrong pictures of {side}\n\n{table(frame, side)}\n")
