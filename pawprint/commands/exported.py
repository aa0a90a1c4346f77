"""Loading an exported model for the commands, with errors that say what to do."""

import argparse
import sys
from pathlib import Path

from pawprint.commands.runtimes import PRECISIONS, RUNTIMES, use_openvino
from pawprint.exporting.shipped.predict import Classifier

MODEL = ("model.onnx", "model.json")  # the files of an exported folder that answers come from


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add the argument --runtime."""
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default=RUNTIMES[0],
        help="what computes the answers; the others need `pip install 'pawprint[openvino]'`",
    )


def load(folder: Path, threads: int = 0, runtime: str = RUNTIMES[0]) -> Classifier:
    """Return the classifier in an export folder. Only data is read; no code in the folder runs.

    threads: that work on one picture; 0 for all cores. runtime: see `add_runtime`.
    Exits with one line if the folder holds no model, or a broken one, or the runtime is not usable.
    """
    for name in MODEL:
        if not (folder / name).is_file():
            sys.exit(
                f"pawprint: {folder / name} is missing; `dvc repro` makes export/, "
                "or name another folder"
            )
    try:
        classifier = Classifier(folder, threads)
    except Exception as error:  # onnxruntime raises its own kinds, all of them for a broken file
        sys.exit(f"pawprint: {folder} holds no usable model: {' '.join(str(error).split())[:200]}")
    if runtime in PRECISIONS:
        use_openvino(classifier, folder, threads, runtime)
    return classifier
