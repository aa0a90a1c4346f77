"""The stages features and train in the current project folder, timed; a part of `train`.

    python -m benchmarks.ours_train ANSWER

ANSWER: the JSON file of figures to write. The seed comes from params.yaml. Started in the folder
of the copied project, it imports the copy's `stages` and `pawprint`: the ones beside it may change
while the benchmark runs.
"""

import json
import sys
from pathlib import Path
from unittest import mock

import pandas as pd

from benchmarks.clock import Clock, peak_memory
from pawprint.params import load_params
from pawprint.pictures.batches import load_pictures
from pawprint.training.device import ComputeParams, start
from pawprint.training.inference import predict_probabilities
from pawprint.training.model import load_model
from pawprint.training.recipe import TrainParams
from stages import features, train

ARGUMENTS = "--table data/split.csv --model models/ours.safetensors --metrics metrics/ours"


def main(answer: Path) -> None:
    """Train on the train split, and count the errors on valid and test."""
    clock = Clock()
    clock.timed("features", features.main)()
    with (
        mock.patch.object(sys, "argv", ["train", *ARGUMENTS.split()]),
        mock.patch.object(train, "load_data", clock.timed("decode", train.load_data)),
        mock.patch.object(train, "fine_tune", clock.timed("fit", train.fine_tune)),
    ):
        train.main()
    for unit in ("", "_cpu"):
        clock.took[f"fit{unit}"] += clock.took[f"decode{unit}"] + clock.took[f"features{unit}"]
    device = start(load_params("compute", ComputeParams), load_params("train", TrainParams).seed)
    model, config = load_model("models/ours.safetensors")
    table = pd.read_csv("data/split.csv")
    held_out = table[table["split"].isin(["valid", "test"])]
    pictures = load_pictures(
        held_out["path"].tolist(), config.size, config.resize, config.interpolation
    )
    answers = predict_probabilities(model, pictures, config, device)
    indexes = answers.argmax(dim=1).tolist()
    wrong = int((held_out["label"] != [config.classes[i] for i in indexes]).sum())
    figures = {
        **clock.took,
        "error": wrong / len(held_out),
        "pictures": len(held_out),
        "memory": peak_memory(),
    }
    answer.write_text(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
