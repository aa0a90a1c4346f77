"""Fine-tune a pretrained model on the training split. Run twice: on the split as gathered, and on the cleaned one.

Reads a table (data/split.csv or data/cleaned.csv) and data/images; metrics/lr_find.json where `train.lr` is auto.
Writes models/NAME.safetensors (weights and configuration), and a row an epoch and the last figures to metrics/.
The test split is not opened here.

models/.NAME.checkpoint keeps the state after each epoch: a killed training goes on from there, to the same bytes.
On several GPUs or machines: `torchrun --nproc-per-node GPUS -m stages.train --table … --model … --metrics …`.
"""

import argparse
import math
import sys
from pathlib import Path

import pandas as pd
import torch

from stages.params import StageError, load_params, run_stage
from stages.tables import read_json, read_table, write_json, write_table
from stages.vision.batches import PRESIZE, Pictures, load_pictures
from stages.vision.checkpoint import Checkpoint, fingerprint
from stages.vision.device import ComputeParams, processes, start, stop
from stages.vision.learner import LR_SPREAD, Data, Learner
from stages.vision.model import ModelConfig, create_model, save_model
from stages.vision.recipe import TrainParams


def main() -> None:
    arguments = parse_arguments()
    params, compute = load_params("train", TrainParams), load_params("compute", ComputeParams)
    device = start(compute, params.seed)
    table = read_table(arguments.table)
    seen = table[table["split"].isin(["train", "valid"])]
    model, config = create_model(params, sorted(table["label"].unique()))
    lr = read_json("metrics/lr_find.json")["valley"] if params.lr == "auto" else params.lr
    if lr is None:
        raise StageError("train.lr is 'auto', but lr_find found no valley; set a number, and see metrics/lr_find.csv")
    data = load_data(seen, config)
    settings = f"{params} {lr} {device} {torch.get_num_threads()} {processes()[1]} {seen.to_csv(index=False)}"
    name = fingerprint(settings, seen["path"], model.state_dict())
    checkpoint = Checkpoint(arguments.model.with_name(f".{arguments.model.stem}.checkpoint"), name)
    rates = lr if isinstance(lr, tuple) else (lr / LR_SPREAD, lr)
    epochs = Learner(model, config, data, params, rates, device, checkpoint).train()
    if processes()[0] == 0:
        save_model(arguments.model, model, config)
        write_metrics(arguments.metrics, epochs, data, lr)
        report(epochs, len(config.classes))
        checkpoint.remove()
    stop()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="CSV with path, label and split")
    parser.add_argument("--model", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--metrics", required=True, help="the .json and .csv to write, without the ending")
    return parser.parse_args()


def load_data(table: pd.DataFrame, config: ModelConfig) -> Data:
    """Decode the train and valid splits."""
    targets = table["label"].map(config.classes.index)
    train, valid = (table[table["split"] == split] for split in ("train", "valid"))

    def load(rows: pd.DataFrame, size: int) -> Pictures:
        return load_pictures(rows["path"].tolist(), size, config.resize, config.interpolation)

    return Data(
        train=load(train, round(config.size * PRESIZE)),
        train_flat=load(train, config.size),
        train_targets=torch.tensor(targets[train.index].tolist()),
        valid=load(valid, config.size),
        valid_targets=torch.tensor(targets[valid.index].tolist()),
    )


def write_metrics(name: str, epochs: list[dict], data: Data, lr: float | tuple[float, float]) -> None:
    last, best = (epochs[-1], best_of(epochs)) if epochs else ({}, {})
    figures = {key: last[key] for key in ("train_loss", "valid_loss", "error_rate") if last}
    write_table(f"{name}.csv", pd.DataFrame(epochs))
    write_json(
        f"{name}.json",
        {
            **figures,
            "best_epoch": best.get("epoch"),
            "best_error_rate": best.get("error_rate"),
            "epochs": len(epochs),
            "lr": lr,
            "train_pictures": len(data.train),
            "valid_pictures": len(data.valid),
        },
    )


def best_of(epochs: list[dict]) -> dict:
    """The epoch of the lowest error on the valid split, of equal ones that of the lowest loss."""
    return min(epochs, key=lambda row: (row["error_rate"], row["valid_loss"]))


def report(epochs: list[dict], classes: int) -> None:
    """Say how the last and the best epoch did, and what is wrong with the curves, if anything is.

    The model is the last epoch's: one cycle ends where the rate has fallen to nearly zero, and the best of many noisy
    figures on a small valid split is best by luck.
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


def warning(epochs: list[dict], classes: int) -> str:
    """What is wrong with the curves of a finished training, in one line; "" where nothing is.

    The rules: the last training loss is more than a tenth above that of guessing, ln(classes): the rate is too high.
    Neither loss is more than a tenth below it: the rate is too low, or the epochs too few. In the last phase, valid
    loss was lowest three or more epochs before the end, is more than 5 % above that now, and training loss fell
    meanwhile: it overfits.
    """
    if not epochs:
        return ""
    last, guessing = epochs[-1], math.log(max(classes, 2))
    if last["train_loss"] > 1.1 * guessing:
        return f"training loss ends at {last['train_loss']:.3g}, above guessing ({guessing:.3g}): lower train.lr"
    if min(last["train_loss"], last["valid_loss"]) > 0.9 * guessing:
        return (
            f"training loss ends at {last['train_loss']:.3g}, near guessing ({guessing:.3g}): raise train.lr or epochs"
        )
    curve = [row for row in epochs if row["phase"] == last["phase"]]
    low = min(curve, key=lambda row: row["valid_loss"])
    rose = last["valid_loss"] > 1.05 * low["valid_loss"] and last["train_loss"] < low["train_loss"]
    if rose and last["epoch"] - low["epoch"] >= 3:
        return (
            f"it overfits: valid loss rose from {low['valid_loss']:.3g} in epoch {low['epoch']} to "
            f"{last['valid_loss']:.3g} while training loss fell; fewer epochs, more augment or weight_decay may help"
        )
    return ""


if __name__ == "__main__":
    run_stage(main)
