"""Fine-tune a pretrained model on the training split. Run twice: on the split as gathered, and on the cleaned one.

Reads a table (data/split.csv or data/cleaned.csv) and data/images; metrics/lr_find.json where `train.lr` is auto.
Writes models/NAME.safetensors (weights and configuration), and a row an epoch and the last figures to metrics/.
The test split is not opened here.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch

from stages.params import StageError, load_params, run_stage
from stages.tables import read_json, read_table, write_json, write_table
from stages.vision.batches import PRESIZE, Pictures, load_pictures
from stages.vision.device import ComputeParams, start
from stages.vision.learner import Data, fine_tune
from stages.vision.model import ModelConfig, create_model, save_model
from stages.vision.recipe import TrainParams


def main() -> None:
    arguments = parse_arguments()
    params = load_params("train", TrainParams)
    device = start(load_params("compute", ComputeParams), params.seed)
    table = read_table(arguments.table)
    classes = sorted(table["label"].unique())
    model, config = create_model(params, classes)
    data = load_data(table, config)
    lr = read_json("metrics/lr_find.json")["valley"] if params.lr == "auto" else params.lr
    if lr is None:
        raise StageError("train.lr is 'auto', but lr_find found no valley; set a number, and see metrics/lr_find.csv")
    epochs = fine_tune(model, config, data, params, lr, device)
    save_model(arguments.model, model, config)
    write_metrics(arguments.metrics, epochs, data, lr)


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


def write_metrics(name: str, epochs: list[dict], data: Data, lr: float) -> None:
    last = epochs[-1] if epochs else {}
    best = min(epochs, key=lambda row: (row["error_rate"], row["valid_loss"]), default={})
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


if __name__ == "__main__":
    run_stage(main)
