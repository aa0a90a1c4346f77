"""Fine-tune a pretrained model on the training split.

Run twice: on the split as gathered, and on the cleaned one. Reads a table (data/split.csv or
data/cleaned.csv), data/images and metrics/lr.json. Writes models/NAME.safetensors (weights and
configuration), and one row per epoch and the last figures to metrics/. The test split is not
opened here.

models/.NAME.checkpoint keeps the state after each epoch: a killed training goes on from there, to
the same bytes. On several GPUs or machines:
`torchrun --nproc-per-node GPUS -m stages.train --table … --model … --metrics …`.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
import torch

from pawprint.judging.errors import error_rate
from pawprint.params import load_params, run_stage
from pawprint.pictures.batches import PRESIZE, Pictures, load_pictures
from pawprint.tables import read_json, read_table, write_json, write_table
from pawprint.training.checkpoint import Checkpoint, fingerprint
from pawprint.training.curves import best_of, warning
from pawprint.training.device import ComputeParams, processes, start, stop
from pawprint.training.learner import Learner, TrainingData, fine_tune
from pawprint.training.model import ModelConfig, create_model, save_model
from pawprint.training.recipe import TrainParams
from pawprint.watch import Watch


def main() -> None:
    arguments = parse_arguments()
    params, compute = load_params("train", TrainParams), load_params("compute", ComputeParams)
    watch = Watch(params.weights)
    device = start(compute, params.seed)
    settled = read_json("metrics/lr.json")
    lrs = (settled["first_layers"], settled["head"])
    table = read_table(arguments.table)
    seen = table[table["split"].isin(["train", "valid"])]
    model, config = create_model(params, sorted(table["label"].unique()))
    data = load_data(seen, config)

    # a killed training goes on from its checkpoint, unless anything that it depends on has changed
    where = f"{device} {torch.get_num_threads()} {processes()[1]}"
    settings = f"{params} {lrs} {where} {seen.to_csv(index=False)}"
    name = fingerprint(settings, seen["path"], model.state_dict())
    checkpoint = Checkpoint(arguments.model.with_name(f".{arguments.model.stem}.checkpoint"), name)

    epochs = fine_tune(Learner(model, config, data, params, lrs, device, checkpoint))
    if processes()[0] == 0:
        save_model(arguments.model, model, config)
        write_metrics(arguments.metrics, epochs, data, lrs)
        report(epochs, len(config.classes))
        watch.refuse_changes()
        checkpoint.remove()
    stop()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="CSV with path, label and split")
    parser.add_argument("--model", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument(
        "--metrics", required=True, help="the .json and .csv to write, without the ending"
    )
    return parser.parse_args()


def load_data(table: pd.DataFrame, config: ModelConfig) -> TrainingData:
    """Decode the train and valid splits."""
    targets = table["label"].map(config.classes.index)
    train, valid = (table[table["split"] == split] for split in ("train", "valid"))

    def load(rows: pd.DataFrame, size: int) -> Pictures:
        return load_pictures(rows["path"].tolist(), size, config.resize, config.interpolation)

    return TrainingData(
        train=load(train, round(config.size * PRESIZE)),
        train_flat=load(train, config.size),
        train_targets=torch.tensor(targets[train.index].tolist()),
        valid=load(valid, config.size),
        valid_targets=torch.tensor(targets[valid.index].tolist()),
    )


def write_metrics(
    name: str, epochs: list[dict], data: TrainingData, lrs: tuple[float, float]
) -> None:
    """Write one row per epoch as CSV, and the last figures as JSON."""
    figures: dict[str, float] = {}
    if epochs:
        last, best = epochs[-1], best_of(epochs)
        pictures = len(data.valid)
        figures = error_rate(round(last["error_rate"] * pictures), pictures)
        figures |= {key: last[key] for key in ("train_loss", "valid_loss")}
        figures |= {"best_epoch": best["epoch"], "best_error_rate": best["error_rate"]}
    write_table(f"{name}.csv", pd.DataFrame(epochs))
    write_json(
        f"{name}.json",
        {**figures, "epochs": len(epochs), "lr": lrs[1], "train_pictures": len(data.train)},
    )


def report(epochs: list[dict], classes: int) -> None:
    """Print how the last and the best epoch did, and what is wrong with the curves, if anything is.

    The model is the last epoch's: one cycle ends when the lr has fallen to nearly zero, and the
    best of many noisy figures on a small valid split is best by luck.
    """
    if epochs:
        last, best = epochs[-1], best_of(epochs)
        parts = (
            f"error {row['error_rate']:.4f} at the {word} epoch, {row['epoch']}"
            for word, row in (("last", last), ("best", best))
        )
        print(f"train: {'; '.join(parts)}", file=sys.stderr)
    if found := warning(epochs, classes):
        print(f"train: warning: {found}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(main)
