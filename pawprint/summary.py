"""`pawprint summary`: what the last run gave, and where to look."""

import argparse
import json
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pawprint summary`."""
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the project's folder")


def run(arguments: argparse.Namespace) -> None:
    """Print the summary."""
    print(summary(arguments.root))


def summary(root: Path) -> str:
    """The errors of both models on the test split, and where report and export are.

    root: the project's folder. Exits with one line where the pipeline has not run to the end.
    """
    try:
        judged = json.loads((root / "metrics/evaluate.json").read_text(encoding="utf-8"))["as_gathered"]
        exported = json.loads((root / "metrics/export.json").read_text(encoding="utf-8"))["model"]
    except FileNotFoundError as error:
        sys.exit(f"pawprint: {error.filename} is missing: `dvc repro` makes it")
    lines = [
        f"test error of the {name} model: {100 * of['error_rate']:.1f} % ({of['wrong']} of {of['pictures']} wrong, "
        f"95 % interval {100 * of['low']:.1f} to {100 * of['high']:.1f} %)"
        for name, of in ((name, judged[name]) for name in ("first", "retrained"))
    ]
    return "\n".join(
        [
            *lines,
            judged["summary"],
            "report.html  what the model confuses, and its top losses",
            f"export/      the {exported} model as ONNX, ready for a Space; try: python export/predict.py PICTURE",
        ]
    )
