"""Loading an exported model for the commands, with errors that say what to do."""

import sys
from pathlib import Path

from pawprint.exporting.shipped.predict import Classifier


def load(folder: Path, threads: int = 0) -> Classifier:
    """Return the classifier in an export folder. Only data is read; no code in the folder runs.

    threads: that work on one picture; 0 for all cores.
    Exits with one line if the folder holds no model, or a broken one.
    """
    for name in ("model.onnx", "model.json"):
        if not (folder / name).is_file():
            sys.exit(
                f"pawprint: {folder / name} is missing; `dvc repro` makes export/, "
                "or name another folder"
            )
    try:
        return Classifier(folder, threads)
    except Exception as error:  # onnxruntime raises its own kinds, all of them for a broken file
        sys.exit(f"pawprint: {folder} holds no usable model: {' '.join(str(error).split())[:200]}")
