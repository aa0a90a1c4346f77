"""Compare recipes of fine-tuning by the pictures they get wrong, on folders of photos.

    python -m benchmarks.recipe FOLDER… --seeds 42 43 44      # FOLDER: one folder per class

Each recipe is params.yaml with a few values of the section `train` changed; RECIPES lists them,
and --recipes names some of them. Every seed draws its own split and its own training. After each
training the weights at 0, 1/4, 1/2, 3/4 and all of the way from the frozen epochs' end to the last
one are asked: 0 is the frozen head, 1 the last epoch, and `auto` what `train.blend: auto` takes. If
a training diverges, all its pictures count as wrong.

The table counts wrong pictures of valid, summed over folders and seeds. Choose by it; then look at
test once, with --test. --results keeps every row, so a benchmark that was stopped goes on. It runs
on a GPU if there is one (compute.device: auto). docs/training.md has the table of four folders.
"""

import itertools
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.results import Results, make_parser, split
from benchmarks.train import make_project
from pawprint.params import StageError, check, load_params, load_yaml
from pawprint.pictures.batches import load_pictures
from pawprint.tables import read_table
from pawprint.training.blend import BLENDS, blend, copy_weights, rank
from pawprint.training.device import ComputeParams, start
from pawprint.training.inference import predict_probabilities
from pawprint.training.learner import Learner, fine_tune, judge, measure
from pawprint.training.lr import first_and_head
from pawprint.training.model import load_body
from pawprint.training.recipe import TrainParams
from stages.train import load_data

ALL = {"freeze_layers": 0, "train_size": 176}  # every layer learns
HALF = {"freeze_layers": 0.5, "train_size": 176}
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    **{
        f"{frozen} frozen, {size} px": {"freeze_layers": frozen, "train_size": size}
        for frozen in (0.5, 0.625, 0.75, 0.875)
        for size in (128, 144, 176)
        if (frozen, size) != (0.75, 144)
    },
    "default, rate 1e-3": {"lr": 1e-3},
    "default, rate 3e-3": {"lr": 3e-3},
    "default, rate 4e-3": {"lr": 4e-3},
    "default, 6 epochs": {"epochs": 6},
    "default, 3 epochs": {"epochs": 3},
    "default, 3 epochs, rate 3e-3": {"epochs": 3, "lr": 3e-3},
    "default, 3 epochs, 160 px": {"epochs": 3, "train_size": 160},
    "default, 2 epochs": {"epochs": 2},
    "default, 2 epochs, rate 4e-3": {"epochs": 2, "lr": 4e-3},
    "0.625 frozen, 2 epochs": {"freeze_layers": 0.625, "epochs": 2},
    "default, batches of 16": {"batch_size": 16},
    "half frozen, 3 epochs": {**HALF, "epochs": 3},
    "half frozen, 2 epochs": {**HALF, "epochs": 2},
    "half frozen, weight decay 0.3": {**HALF, "weight_decay": 0.3},
    "three stages frozen": {**HALF, "freeze_layers": 0.375},
    "all layers": ALL,
    "all layers, rate 1e-3": {**ALL, "lr": 1e-3},
    "all layers, rate 8e-3": {**ALL, "lr": 8e-3},
    "all layers, fit_one_cycle": {**ALL, "method": "fit_one_cycle"},
    "all layers, weight decay 0.3": {**ALL, "weight_decay": 0.3},
    "all layers, label smoothing 0": {**ALL, "label_smoothing": 0.0},
    "all layers, label smoothing 0.2": {**ALL, "label_smoothing": 0.2},
    "all layers, mixup 0.2": {**ALL, "mixup": 0.2},
    "all layers, batches of 16": {**ALL, "batch_size": 16},
    "all layers, batches of 64": {**ALL, "batch_size": 64},
    "all layers, crops from 0.35": {**ALL, "augment": {"min_scale": 0.35}},
    "all layers, crops from 0.75": {**ALL, "augment": {"min_scale": 0.75}},
    "all layers, augment.mult 0.5": {**ALL, "augment": {"mult": 0.5}},
    "all layers, ema 0.97": {**ALL, "ema": 0.97},
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    arguments = parser.parse_args()
    results = Results(arguments.results, ("folder", "seed", "recipe"))
    folders = [str(folder) for folder in arguments.folders]
    runs = list(itertools.product(folders, arguments.seeds, arguments.recipes))
    with tempfile.TemporaryDirectory() as temporary:
        missing = itertools.groupby(results.missing(runs), key=lambda run: run[0])
        for number, (folder, of_folder) in enumerate(missing):
            project = make_project(Path(temporary) / str(number), Path(folder))
            project.edit(**{"compute.device": "auto"})
            project.stage("features")
            os.chdir(project.path)
            for _, seed, name in of_folder:
                split(project, seed)
                found = try_recipe(RECIPES[name], seed)
                about = {"folder": folder, "seed": seed, "recipe": name}
                results.add(about | row for row in found)
    results.show(table, runs, arguments.test)


def try_recipe(changes: dict[str, Any], seed: int) -> list[dict[str, float]]:
    """Train in the project of the working directory; return a row of figures per blend."""
    section = load_yaml(Path("params.yaml"))["train"]
    augment = section["augment"] | changes.get("augment", {})
    section |= {"seed": seed, **changes, "augment": augment, "blend": 1}
    params = check(section, TrainParams, "train", Path("params.yaml"))
    if isinstance(params.lr, str):
        raise SystemExit("benchmarks.recipe: set a number as train.lr in params.yaml")
    device = start(load_params("compute", ComputeParams), seed)
    pictures = read_table("data/split.csv")
    model, config = load_body(sorted(pictures["label"].unique()))
    data = load_data(pictures[pictures["split"] != "test"], config)
    test = pictures[pictures["split"] == "test"]
    rule = (config.size, config.resize, config.interpolation)
    held_out = load_pictures(test["path"].tolist(), *rule)
    truth = torch.tensor([config.classes.index(label) for label in test["label"]])
    learner = Learner(model, config, data, params, first_and_head(params.lr), device)
    try:
        fine_tune(learner)
    except StageError as error:
        print(f"benchmarks.recipe: {error}", file=sys.stderr)
        lost = {"error_rate": 1.0, "valid_loss": math.inf, "valid": len(data.valid)}
        return [{"blend": share, **lost, "test": len(test)} for share in BLENDS]
    end, rows = copy_weights(model), []
    for share in BLENDS:
        blend(model, learner.start, end, share)
        figures = measure(learner, judge(learner, model))
        answers = predict_probabilities(model, held_out, config, device).argmax(dim=1)
        wrong = {"valid": round(figures["error_rate"] * len(data.valid))}
        wrong["test"] = int((answers != truth).sum())
        rows.append({"blend": share, **figures, **wrong})
    return rows


def table(rows: pd.DataFrame, side: str) -> str:
    """Return a table of wrong pictures, a row per recipe and a column per blend."""
    sums = rows.pivot_table(side, "recipe", "blend", aggfunc="sum", sort=False)
    trainings = rows.groupby(["folder", "seed", "recipe"], sort=False)
    chosen = pd.DataFrame([min(each.to_dict("records"), key=rank) for _, each in trainings])
    sums["auto"] = chosen.groupby("recipe")[side].sum()
    lines = [
        " | ".join(["| recipe", *map(str, sums.columns)]) + " |",
        "|---" * (len(sums.columns) + 1) + "|",
    ]
    for name, row in sums.iterrows():
        lines.append(" | ".join([f"| {name}", *(str(int(wrong)) for wrong in row)]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
