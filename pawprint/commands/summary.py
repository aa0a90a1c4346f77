"""`pawprint summary`: what the last run gave, and where to look."""

import argparse
import json
import sys
from pathlib import Path

NAMES = {
    "majority": "the most frequent class",
    "pixel_l1": "nearest mean picture, L1",
    "pixel_l2": "nearest mean picture, L2",
    "linear": "linear head, frozen body",
    "first": "first model",
    "retrained": "retrained model",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pawprint summary`."""
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the project's folder")


def run(arguments: argparse.Namespace) -> None:
    """Print the summary."""
    print(summary(arguments.root))


def summary(root: Path) -> str:
    """The errors of baselines and both models on the test split, and where report and export are.

    root: the project's folder. Exits with one line where the pipeline has not run to the end.
    """
    try:
        judged = json.loads((root / "metrics/evaluate.json").read_text(encoding="utf-8"))
        exported = json.loads((root / "metrics/export.json").read_text(encoding="utf-8"))["model"]
    except FileNotFoundError as error:
        sys.exit(f"pawprint: {error.filename} is missing: `dvc repro` makes it")
    gathered, cleaned = judged["as_gathered"], judged["as_cleaned"]
    lines = ["wrong on the test split   pictures    error   95 % interval"]
    for key, name in NAMES.items():
        of = gathered[key]
        share = f"{of['wrong']} of {of['pictures']}"
        lines.append(f"{name:25} {share:>9} {100 * of['error_rate']:6.1f} %   {interval(of)}")
    lines += [gathered["beyond_linear"], gathered["summary"]]
    if cleaned["summary"] != gathered["summary"]:
        lines.append(f"with the labels as cleaned: {cleaned['summary']}")
    return "\n".join(
        [
            *lines,
            "report.html  what the model confuses, and its top losses",
            f"export/      the {exported} model as ONNX, ready for a Space; try: python export/predict.py PICTURE",
        ]
    )


def interval(of: dict[str, float]) -> str:
    """The 95 % interval of an error, in percent."""
    return f"{100 * of['low']:.1f} to {100 * of['high']:.1f} %"
