"""Sweep the learning rate upwards, and read off the loss curve which rates train well.

Reads data/split.csv, data/images.csv and data/features.safetensors. Writes metrics/lr_find.csv
(lr, loss) and metrics/lr_find.json (suggestions: valley, steep, minimum). The method and its
source: pawprint/training/lr_finder.py.
"""

import sys

import numpy as np
import pandas as pd
import torch
from torch import nn

from pawprint.params import load_params, run_stage
from pawprint.tables import read_table, write_json, write_table
from pawprint.training.device import ComputeParams, start
from pawprint.training.features import read_features
from pawprint.training.lr_finder import LrFindParams, run_sweep, suggest
from pawprint.training.recipe import HeadParams


def main() -> None:
    sweep, params = load_params("lr_find", LrFindParams), load_params("train", HeadParams)
    device = start(load_params("compute", ComputeParams), params.seed)
    table = read_table("data/split.csv")
    classes = sorted(table["label"].unique())
    rows = table[table["split"] == "train"]

    # a head of zeros, on features of the frozen body
    targets = torch.tensor(rows["label"].map(classes.index).tolist(), device=device)
    seen = torch.from_numpy(read_features(rows["path"].tolist(), "features")).to(device)
    head = nn.Linear(seen.shape[1], len(classes), device=device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)

    # the sweep, and what it suggests
    lrs, losses = run_sweep(head, seen, targets, sweep, params)
    found = suggest(np.array(lrs), np.array(losses))
    write_table("metrics/lr_find.csv", pd.DataFrame({"lr": lrs, "loss": losses}))
    write_json("metrics/lr_find.json", found)
    names = [name for name in ("valley", "steep", "minimum") if found[name]]
    found_lrs = ", ".join(f"{name} {found[name]:.2g}" for name in names)
    print(f"lr_find: {found_lrs or 'no suggestion: ' + str(found['note'])}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(main)
