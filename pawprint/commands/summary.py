"""`pawprint summary`: what the last run gave, and where to look."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pawprint.judging.errors import NAMES, describe_error
from pawprint.params import listed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pawprint summary`."""
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the project's folder")


def run(arguments: argparse.Namespace) -> None:
    """Print the summary."""
    print(summary(arguments.root))


def summary(root: Path) -> str:
    """Return the errors of baselines and models on the test split, and where to look further.

    root: the project's folder. Exits with one line if the pipeline has not run to the end.
    """
    judged, exported, split = (
        read_metrics(root / f"metrics/{name}.json") for name in ("evaluate", "export", "split")
    )
    try:
        lines = [*error_lines(judged), *rare_lines(split["rare"]["not_tested"])]
        return "\n".join([*lines, *places(exported["model"])])
    except (KeyError, TypeError, ValueError):
        sys.exit(
            "pawprint: metrics/evaluate.json, metrics/export.json and metrics/split.json are not "
            "those of this version; `dvc repro` makes them"
        )


def read_metrics(path: Path) -> dict[str, Any]:
    """Return a JSON file of metrics. Exits with one line if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        sys.exit(f"pawprint: {path} is missing: `dvc repro` makes it")
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        sys.exit(f"pawprint: {path} cannot be read ({reason}): `dvc repro` makes it again")


def error_lines(judged: dict[str, Any]) -> list[str]:
    """Return the table of errors, one line per model, and the comparisons in words."""
    gathered, cleaned = judged["as_gathered"], judged["as_cleaned"]
    lines = [f"{'wrong on the test split':31} {'pictures':>10}   error (95 % interval)"]
    for key, name in NAMES.items():
        error = gathered[key]
        share = f"{error['wrong']} of {error['pictures']}"
        lines.append(f"{name:31} {share:>10}   {describe_error(error)}")
    lines += [gathered["beyond_linear"], gathered["summary"]]
    if cleaned["summary"] != gathered["summary"]:
        lines.append(f"with the labels as cleaned: {cleaned['summary']}")
    return lines


def rare_lines(classes: list[str]) -> list[str]:
    """Return a line about the classes without a test picture, if there are any."""
    if not classes:
        return []
    return [f"{len(classes)} class(es) without a test picture, not measured: {listed(classes)}"]


def places(model: str) -> list[str]:
    """Return where to look. model: the name of the one that was exported."""
    return [
        "report.html  what the model confuses, and its top losses",
        f"export/      the {NAMES.get(model, model)} as ONNX, ready for a Space; "
        "try: python export/predict.py PICTURE",
    ]
