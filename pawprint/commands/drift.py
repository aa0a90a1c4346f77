"""`pawprint drift`: whether the answers in use are still like those on the valid pictures.

`pawprint serve --log` writes the log; export/reference.json holds what the model said of the valid
pictures. Three things are compared:

- the mix of classes: chi-squared test, with its p-value from random tables, so that few pictures
  do no harm; the size of the difference is the population stability index,
- how sure the answers are: two-sample Kolmogorov-Smirnov test,
- how many are none of the classes: Fisher's exact test.

The answers drifted if one of them differs by more than chance, at 1 % shared among the three tests
(Bonferroni), and by so much that it matters: with enough pictures any trifle is more than chance.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pawprint.commands.answers import COLUMNS, load_reference, model_id

LEVEL = 0.01 / 3  # chance of a false alarm in one test
FEWEST = 20  # predictions below which nothing could be said
# Sizes from which a difference matters: the usual 0.1 of the stability index; a tenth of the
# pictures; 5 in 100.
MATTERS = {"classes": 0.1, "confidence": 0.1, "none": 0.05}
TABLES = 9999  # random tables for the chi-squared test


@dataclass
class Answers:
    """The answers of one model: classes, probabilities, and how many were none of the classes."""

    classes: Counter[str] = field(default_factory=Counter)
    confidence: list[float] = field(default_factory=list)
    none: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pawprint drift`."""
    parser.add_argument("log", type=Path, help="what `pawprint serve --log` wrote")
    parser.add_argument(
        "export", type=Path, nargs="?", default=Path("export"), help="the exported folder"
    )


def run(arguments: argparse.Namespace) -> None:
    """Say in one line whether the answers drifted.

    The exit code is 2 if they did, 0 if not, and 1 if it cannot be said.
    """
    reference = load_reference(arguments.export)
    answers = read_log(arguments.log, model_id(arguments.export))
    unknown = sorted(set(answers.classes) - set(reference["classes"]))
    if unknown:
        sys.exit(
            f"pawprint: {arguments.log} holds the class {unknown[0]!r}, "
            f"which {arguments.export} does not know"
        )
    if len(answers.confidence) < FEWEST:
        sys.exit(
            f"pawprint: {arguments.log} holds {len(answers.confidence)} predictions of the model "
            f"in {arguments.export}; at least {FEWEST} are needed"
        )
    differences = compare_answers(reference, answers)
    print(sentence(differences, reference["pictures"], len(answers.confidence)))
    sys.exit(2 if any(drifted(name, *each) for name, each in differences.items()) else 0)


def read_log(path: Path, model: str) -> Answers:
    """Return the answers of one model in a log.

    Broken lines and those of other models are passed over, and counted on stderr. Exits with one
    line if the file cannot be read or is not a log.
    """
    answers, broken, others = Answers(), 0, 0
    try:
        with path.open("rb") as file:
            text = (line.decode("utf-8", "replace").replace("\0", "") for line in file)
            if next(parse_lines(text), None) != list(COLUMNS):
                sys.exit(
                    f"pawprint: {path} is not a log of `pawprint serve --log`; "
                    "its first line should name its columns"
                )
            for row in parse_lines(text):
                try:
                    _, by, _, label, probability, flag, _ = row
                    sure, strange = float(probability), ("0", "1").index(flag)
                    if not 0 <= sure <= 1:
                        raise ValueError
                except ValueError:
                    broken += row not in ([], list(COLUMNS))
                    continue
                if by != model:
                    others += 1
                    continue
                answers.classes[label] += 1
                answers.confidence.append(sure)
                answers.none += strange
    except OSError as error:
        sys.exit(f"pawprint: {path} cannot be read: {error.strerror}")
    for count, what in ((broken, "broken lines"), (others, "answers of another model")):
        if count:
            print(f"pawprint: passed over {count} {what} in {path}", file=sys.stderr)
    return answers


def parse_lines(lines: Iterator[str]) -> Iterator[list[str]]:
    """Yield the cells of each line; one cell for a line that is not CSV."""
    for line in lines:
        try:
            yield from csv.reader([line])
        except csv.Error:
            yield [line]


def compare_answers(reference: dict[str, Any], answers: Answers) -> dict[str, tuple[float, float]]:
    """Return the size of each difference, and its chance if nothing drifted.

    The keys are classes, confidence and none.
    """
    from scipy.stats import fisher_exact, ks_2samp  # here: it takes a second

    labels = sorted(reference["classes"])
    before = np.array([reference["classes"][label] for label in labels])
    now = np.array([answers.classes.get(label, 0) for label in labels])
    n, m = reference["pictures"], len(answers.confidence)
    test = ks_2samp(reference["confidence"], answers.confidence)
    strange = [[reference["none"], n - reference["none"]], [answers.none, m - answers.none]]
    return {
        "classes": (stability_index(before, now), chi_squared(before, now)),
        "confidence": (float(test.statistic), float(test.pvalue)),
        "none": (abs(answers.none / m - reference["none"] / n), float(fisher_exact(strange)[1])),
    }


def stability_index(before: np.ndarray, now: np.ndarray) -> float:
    """Return the population stability index of two arrays of counts, one per class.

    Each count gets half a picture more, so that none is 0.
    """
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (before, now))
    return float(((q - p) * np.log(q / p)).sum())


def chi_squared(before: np.ndarray, now: np.ndarray) -> float:
    """Return the p-value of Pearson's chi-squared test that two arrays of counts have one mix.

    It comes from TABLES random tables with the same sums.
    """
    total = before + now
    before, now, total = (counts[total > 0] for counts in (before, now, total))
    expected = total * now.sum() / total.sum()

    def distance(counts: np.ndarray) -> np.ndarray:
        return ((counts - expected) ** 2 / total).sum(axis=-1)  # of both rows, up to a factor

    drawn = np.random.default_rng(0).multivariate_hypergeometric(
        total, int(now.sum()), TABLES, method="marginals"
    )
    return float((1 + (distance(drawn) >= distance(now) - 1e-9).sum()) / (1 + TABLES))


def drifted(name: str, size: float, chance: float) -> bool:
    """Return whether a difference is more than chance, and large enough to matter."""
    return chance < LEVEL and size >= MATTERS[name]


def sentence(differences: dict[str, tuple[float, float]], before: int, now: int) -> str:
    """Return the comparison in one line."""
    names = {"classes": "mix of classes", "confidence": "confidence", "none": "share of none"}
    sizes = {"classes": "stability index", "confidence": "KS distance", "none": "difference"}
    texts = {
        key: f"{names[key]} ({sizes[key]} {size:.2f}, p = {p:.2g})"
        for key, (size, p) in differences.items()
    }
    moved = [texts[key] for key, each in differences.items() if drifted(key, *each)]
    counts = f"{now} predictions against {before} valid pictures"
    if moved:
        return f"drifted: {', '.join(moved)}; {counts}"
    return f"no drift: {', '.join(texts.values())}; {counts}"
