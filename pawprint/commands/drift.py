"""`pawprint drift`: whether the answers in use are still those of the pictures that the model was judged on.

`pawprint serve --log` writes the log; export/reference.json holds what the model said of the valid pictures. Compared
are the mix of classes (chi-squared test, its p-value from random tables so that few pictures do no harm; size by the
population stability index), how sure the answers are (two-sample Kolmogorov-Smirnov) and how many are none of the
classes (Fisher's exact test). They drifted where one differs by more than chance, at 1 % shared among the three tests
(Bonferroni), and by so much that it matters: with enough pictures any trifle is more than chance.
"""

import argparse
import csv
import hashlib
import io
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ("time", "model", "sha256", "prediction", "probability", "none", "none_score")
LEVEL = 0.01 / 3  # chance of a false alarm, a test
FEWEST = 20  # predictions below which nothing could be said
# Sizes from which a difference matters: the usual 0.1 of the stability index; a tenth of the pictures; 5 in 100.
MATTERS = {"classes": 0.1, "confidence": 0.1, "none": 0.05}
TABLES = 9999  # random tables for the chi-squared test


class Log:
    """A CSV of answers, a line for each: hashes, never pictures. Lines are appended whole, by threads and processes."""

    def __init__(self, path: Path, model: str) -> None:
        """model: as `model_id` gives it. Exits with one line where `path` is something else, or cannot be written."""
        self.path, self.model, self.lock = path, model, threading.Lock()
        try:
            with path.open("a+b") as file:
                file.seek(0)
                first = file.readline(200).decode("utf-8", "replace").strip()
        except OSError as error:
            sys.exit(f"pawprint: --log {path} cannot be written: {error.strerror}")
        if first and first != ",".join(COLUMNS):
            sys.exit(f"pawprint: --log {path} holds something else already; name another file")

    def add(self, sha256: str, answer: dict[str, Any]) -> None:
        """Append one answer. Raises OSError where it cannot be written, as on a full disk."""
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        figures = (
            f"{answer['probability']:.6f}",
            int(answer["none"]),
            f"{answer['none_score']:.6f}",
        )
        row = (now, self.model, sha256, answer["label"], *figures)
        with (
            self.lock,
            self.path.open("a+b", buffering=0) as file,
        ):  # opened anew, so that the log may be rotated
            end = file.seek(0, io.SEEK_END)
            text = "" if end else line_of(COLUMNS)
            if end:
                file.seek(end - 1)
                text = (
                    "" if file.read(1) == b"\n" else "\n"
                )  # a full disk or a kill cut the last line
            file.write((text + line_of(row)).encode("utf-8"))


def line_of(row: Iterable[object]) -> str:
    """One line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def model_id(export: Path) -> str:
    """A short name for exactly the model in an export folder: the start of its sha256."""
    return hashlib.sha256((export / "model.onnx").read_bytes()).hexdigest()[:12]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pawprint drift`."""
    parser.add_argument("log", type=Path, help="what `pawprint serve --log` wrote")
    parser.add_argument(
        "export", type=Path, nargs="?", default=Path("export"), help="the exported folder"
    )


def run(arguments: argparse.Namespace) -> None:
    """Say in one line whether the answers drifted: exit code 2 if so, 0 if not, 1 where it cannot be said."""
    reference = load_reference(arguments.export)
    answers = read_log(arguments.log, model_id(arguments.export))
    unknown = sorted(set(answers["classes"]) - set(reference["classes"]))
    if unknown:
        sys.exit(
            f"pawprint: {arguments.log} holds the class {unknown[0]!r}, which {arguments.export} does not know"
        )
    if len(answers["confidence"]) < FEWEST:
        sys.exit(
            f"pawprint: {arguments.log} holds {len(answers['confidence'])} predictions of the model in "
            f"{arguments.export}; at least {FEWEST} are needed"
        )
    found = compare(reference, answers)
    print(sentence(found, reference["pictures"], len(answers["confidence"])))
    sys.exit(2 if any(drifted(name, *figures) for name, figures in found.items()) else 0)


def load_reference(export: Path) -> dict[str, Any]:
    """What the model said of valid: pictures, classes (how many each), none (how many) and confidence (sorted)."""
    path = export / "reference.json"
    try:
        reference = json.loads(path.read_text(encoding="utf-8"))
        if (
            not reference["classes"]
            or not reference["confidence"]
            or not 0 <= reference["none"] <= reference["pictures"]
        ):
            raise ValueError
        return reference
    except FileNotFoundError:
        sys.exit(f"pawprint: {path} is missing; `dvc repro` makes export/, or name another folder")
    except (ValueError, KeyError, TypeError):
        sys.exit(
            f"pawprint: {path} is not what the stage export writes; `dvc repro --force export` makes it anew"
        )


def read_log(path: Path, model: str) -> dict[str, Any]:
    """The answers of one model: classes (a Counter), confidence (a list) and none (how many).

    Broken lines and those of other models are passed over, and counted on stderr.
    """
    classes: Counter[str] = Counter()
    confidence, none, broken, others = [], 0, 0, 0
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            if next(csv.reader(file), []) != list(COLUMNS):
                sys.exit(
                    f"pawprint: {path} is no log of `pawprint serve --log`; its first line should name its columns"
                )
            for row in csv.reader(line.replace("\0", "") for line in file):
                try:
                    _, by, _, label, probability, flag, _ = row
                    sure, strange = float(probability), ("0", "1").index(flag)
                except ValueError:
                    broken += row not in ([], list(COLUMNS))
                    continue
                if by != model:
                    others += 1
                    continue
                classes[label] += 1
                confidence.append(sure)
                none += strange
    except OSError as error:
        sys.exit(f"pawprint: {path} cannot be read: {error.strerror}")
    for n, what in ((broken, "broken lines"), (others, "answers of another model")):
        if n:
            print(f"pawprint: passed over {n} {what} in {path}", file=sys.stderr)
    return {"classes": classes, "confidence": confidence, "none": none}


def compare(reference: dict[str, Any], answers: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """For classes, confidence and none: the size of the difference, and the chance of one as large without drift."""
    from scipy.stats import fisher_exact, ks_2samp  # here: `pawprint serve` imports this module too

    labels = sorted(reference["classes"])
    before = np.array([reference["classes"][label] for label in labels])
    now = np.array([answers["classes"].get(label, 0) for label in labels])
    n, m = reference["pictures"], len(answers["confidence"])
    test = ks_2samp(reference["confidence"], answers["confidence"])
    strange = [[reference["none"], n - reference["none"]], [answers["none"], m - answers["none"]]]
    return {
        "classes": (stability_index(before, now), chi_squared(before, now)),
        "confidence": (float(test.statistic), float(test.pvalue)),
        "none": (abs(answers["none"] / m - reference["none"] / n), float(fisher_exact(strange)[1])),
    }


def stability_index(before: np.ndarray, now: np.ndarray) -> float:
    """The population stability index of two arrays of counts, with half a picture more in each: none is empty."""
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (before, now))
    return float(((q - p) * np.log(q / p)).sum())


def chi_squared(before: np.ndarray, now: np.ndarray) -> float:
    """The p-value of Pearson's chi-squared test that two arrays of counts have one mix, from TABLES random tables."""
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
    """Whether a difference is more than chance, and large enough to matter."""
    return chance < LEVEL and size >= MATTERS[name]


def sentence(found: dict[str, tuple[float, float]], before: int, now: int) -> str:
    """The comparison in one line."""
    names = {"classes": "mix of classes", "confidence": "confidence", "none": "share of none"}
    sizes = {"classes": "stability index", "confidence": "KS distance", "none": "difference"}
    parts = [
        f"{names[key]} ({sizes[key]} {size:.2f}, p = {p:.2g})" for key, (size, p) in found.items()
    ]
    moved = [
        part
        for part, (key, figures) in zip(parts, found.items(), strict=True)
        if drifted(key, *figures)
    ]
    counts = f"{now} predictions against {before} valid pictures"
    return (
        f"drifted: {', '.join(moved)}; {counts}"
        if moved
        else f"no drift: {', '.join(parts)}; {counts}"
    )
