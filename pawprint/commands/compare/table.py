"""The table and the plot of `pawprint compare`: error against speed, one row per architecture.

Trained once, a row has the 95 % intervals of its errors. Trained with several seeds, it has their
mean, their standard deviation, and the best and the worst of them.
"""

import re
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pawprint.judging.errors import describe_error
from pawprint.tables import png_of, to_csv, write_bytes

OUT = Path("compare")
READABLE = ("error_rate", "low", "high", "pictures")  # of an error, as columns of the table
OF_SEEDS = ("error_rate", "spread", "best", "worst", "pictures")


@dataclass(frozen=True)
class Compared:
    """One architecture.

    seconds: that the exported model takes for one picture, decoded and of the right size, on this
    machine. valid, test: errors as `pawprint.judging.errors.error_rate` gives them; with seeds, as
    `over_seeds` does. seeds: how many trainings these are the mean of; 0 if it was trained once.
    """

    arch: str
    family: str
    parameters: int
    seconds: float
    valid: dict[str, float]
    test: dict[str, float]
    seeds: int = 0

    def cells(self) -> dict[str, object]:
        """Return the row as columns of a table."""
        cells: dict[str, object] = {
            "arch": self.arch,
            "family": self.family,
            "parameters": self.parameters,
            "seconds": f"{self.seconds:.6g}",
        }
        if self.seeds:
            cells["seeds"] = self.seeds
        for split, error in (("valid", self.valid), ("test", self.test)):
            keys = OF_SEEDS if self.seeds else READABLE
            names = {key: f"{split}_{key.removesuffix('_rate')}" for key in keys}
            cells |= {name: f"{error[key]:.6g}" for key, name in names.items()}
        return cells


def family_of(arch: str) -> str:
    """Return the family of an architecture: the first word of its name, without numbers.

    The lesson's notebook reads it off the name in the same way.
    """
    found = re.match(r"(?:tf_)?([a-z]+?(?:v2)?)(?=\d|_|\.|$)", arch)
    return found[1] if found else arch


def over_seeds(runs: list[Compared]) -> Compared:
    """Return one row for the runs of an architecture with several seeds, two or more.

    Its errors hold error_rate, the mean; spread, the standard deviation; best, worst, pictures.
    """

    def summary(errors: list[dict[str, float]]) -> dict[str, float]:
        rates = [error["error_rate"] for error in errors]
        return {
            "error_rate": statistics.fmean(rates),
            "spread": statistics.stdev(rates),
            "best": min(rates),
            "worst": max(rates),
            "pictures": errors[0]["pictures"],
        }

    valid, test = summary([run.valid for run in runs]), summary([run.test for run in runs])
    return replace(runs[0], valid=valid, test=test, seeds=len(runs))


def write_results(rows: list[Compared]) -> None:
    """Write compare/compare.csv, .md and .png."""
    OUT.mkdir(exist_ok=True)
    write_csv(OUT / "compare.csv", [row.cells() for row in rows])
    (OUT / "compare.md").write_text(markdown(rows), encoding="utf-8")
    plot(rows, OUT / "compare.png")


def write_seeds(runs: list[list[Compared]], first: int) -> None:
    """Write compare/seeds.csv, one row per training; without any, remove an earlier one's.

    runs: of each architecture, one per seed, from `first` on.
    """
    if not runs:
        (OUT / "seeds.csv").unlink(missing_ok=True)
        return
    rows = [
        {
            "arch": run.arch,
            "seed": seed,
            "valid_error": f"{run.valid['error_rate']:.6g}",
            "test_error": f"{run.test['error_rate']:.6g}",
        }
        for own in runs
        for seed, run in enumerate(own, start=first)
    ]
    write_csv(OUT / "seeds.csv", rows)


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    """Write a table; all rows have the same columns."""
    write_bytes(path, to_csv(list(rows[0]), [list(row.values()) for row in rows]))


def markdown(rows: list[Compared]) -> str:
    """Return the table for people: best valid error first."""
    counts = f"{rows[0].valid['pictures']:.0f} valid and {rows[0].test['pictures']:.0f} test"
    seeds = rows[0].seeds
    what = "mean ± standard deviation" if seeds else "95 %"
    advice = "if intervals overlap, either architecture may be the better."
    if seeds:
        advice = (
            f"each is trained with {seeds} seeds. The deviation is that of the seeds alone; it "
            "does not say how much other pictures would change the errors."
        )
    lines = [
        f"| architecture | error on valid ({what}) | error on test ({what}) | ms per picture "
        "| million parameters |",
        "|---|---|---|---|---|",
        *(
            f"| {row.arch} | {describe(row.valid)} | {describe(row.test)} "
            f"| {1000 * row.seconds:.1f} | {row.parameters / 1e6:.1f} |"
            for row in rows
        ),
        "",
        f"{counts} pictures, the same for all. Choose by valid; {advice}",
        "",
    ]
    return "\n".join(lines)


def describe(error: dict[str, float]) -> str:
    """Return an error in percent, with its interval or, of several seeds, what they differ by."""
    if "spread" not in error:
        return describe_error(error)
    rate, spread, best, worst = (100 * error[key] for key in OF_SEEDS[:4])
    return f"{rate:.1f} ± {spread:.1f} % ({best:.1f} to {worst:.1f})"


def plot(rows: list[Compared], path: Path) -> None:
    """Plot error against speed, valid left and test right.

    An architecture is a dot, its family the colour, its parameters the area.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    families = sorted({row.family for row in rows})
    palette = matplotlib.colormaps["tab10" if len(families) <= 10 else "tab20"]
    colours = {family: palette(i % palette.N) for i, family in enumerate(families)}
    figure, axes = pyplot.subplots(
        1, 2, figsize=(11, 5), sharex=True, sharey=True, layout="constrained"
    )
    for axis, split in zip(axes, ("valid", "test"), strict=True):
        plot_split(axis, rows, split, colours)
    axes[0].set_title("valid: choose here")
    axes[1].set_title("test: what the choice is worth")
    of_seeds = f"mean of {rows[0].seeds} seeds, with best and worst"
    axes[0].set_ylabel(f"error, %, {of_seeds if rows[0].seeds else 'with 95 % interval'}")
    axes[0].set_ylim(bottom=0)
    for family in families:
        axes[1].scatter([], [], color=colours[family], label=family)
    figure.legend(
        title="family; area: parameters", fontsize=8, title_fontsize=8, loc="outside right upper"
    )
    write_bytes(path, png_of(figure, dpi=130))
    pyplot.close(figure)


def plot_split(axis: Any, rows: list[Compared], split: str, colours: dict[str, Any]) -> None:
    """Plot the errors of one split into matplotlib's axes."""
    # at an angle, because dots with the same error lie close together
    words = {"rotation": 45, "rotation_mode": "anchor", "fontsize": 8}
    ends = ("best", "worst") if rows[0].seeds else ("low", "high")
    for row in rows:
        colour, at, found = colours[row.family], 1000 * row.seconds, getattr(row, split)
        error, low, high = (100 * found[key] for key in ("error_rate", *ends))
        axis.plot([at, at], [low, high], color=colour, alpha=0.35, linewidth=1.5, zorder=1)
        look = {"edgecolors": "white", "zorder": 2, "clip_on": False}
        axis.scatter(at, error, 30 + 4 * row.parameters / 1e6, color=colour, **look)
        axis.annotate(row.arch, (at, error), (5, 5), textcoords="offset points", **words)
    if max(row.seconds for row in rows) > 5 * min(row.seconds for row in rows):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(
            lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""
        )
    axis.margins(x=0.25)
    axis.grid(alpha=0.25)
    axis.set_xlabel("milliseconds per picture, on this machine")
