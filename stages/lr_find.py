"""Sweep the learning rate upwards, and read off the loss curve which rates train well.

Reads data/split.csv and data/images. Writes metrics/lr_find.csv (lr, loss) and
metrics/lr_find.json (suggestions: valley, steep, minimum). The method and its source:
pawprint/training/lr_finder.py.
"""

import sys

import numpy as np
import pandas as pd
import torch

from pawprint.params import load_params, run_stage
from pawprint.pictures.batches import load_pictures
from pawprint.tables import read_table, write_json, write_table
from pawprint.training.device import ComputeParams, autocast, start
from pawprint.training.inference import compute_features
from pawprint.training.lr_finder import LrFindParams, run_sweep, suggest
from pawprint.training.model import Head, create_model
from pawprint.training.recipe import TrainParams
from pawprint.watch import Watch


def main() -> None:
    sweep, params = load_params("lr_find", LrFindParams), load_params("train", TrainParams)
    watch = Watch(params.weights)
    device = start(load_params("compute", ComputeParams), params.seed)
    table = read_table("data/split.csv")
    classes = sorted(table["label"].unique())
    rows = table[table["split"] == "train"]

    # features of the frozen body, computed once
    model, config = create_model(params, classes)
    paths = rows["path"].tolist()
    pictures = load_pictures(paths, config.size, config.resize, config.interpolation)
    targets = torch.tensor(rows["label"].map(classes.index).tolist(), device=device)
    with autocast(params.precision, device):
        seen = compute_features(model, pictures, config, device).to(device)

    # the sweep, and what it suggests
    lrs, losses = run_sweep(Head(model).eval(), seen, targets, sweep, params)
    found = suggest(np.array(lrs), np.array(losses))
    write_table("metrics/lr_find.csv", pd.DataFrame({"lr": lrs, "loss": losses}))
    write_json("metrics/lr_find.json", found)
    watch.refuse_changes()
    names = [name for name in ("valley", "steep", "minimum") if found[name]]
    found_lrs = ", ".join(f"{name} {found[name]:.2g}" for name in names)
    print(f"lr_find: {found_lrs or 'no suggestion: ' + str(found['note'])}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(main)
