"""Fine-tune a pretrained model on the training split.

Run twice: on the split as gathered, and on the cleaned one. Reads a table (data/split.csv or
data/cleaned.csv), data/images.csv, data/images, models/body.safetensors, data/features.safetensors
and metrics/lr.json. Writes models/NAME.safetensors (weights and configuration), and one row per
epoch and the last figures to metrics/. The test split is not opened here.

Training is deterministic: if cleaning changed nothing that is trained on or validated with, the
second model is a copy of the first.

models/.NAME.checkpoint keeps the state after each epoch: a killed training goes on from there, to
the same bytes. Several GPUs of this machine share the training (`compute.workers`), and so do the
workers of a cluster (`compute.engine: ray`), as processes of torch.distributed.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from pawprint.compute.choice import open_engine
from pawprint.compute.cluster import RayEngine
from pawprint.compute.group import train_on_cluster
from pawprint.judging.errors import error_rate
from pawprint.params import load_params, run_stage
from pawprint.pictures.batches import PRESIZE, Pictures, load_pictures
from pawprint.tables import read_json, read_table, write_bytes, write_json, write_table
from pawprint.training.checkpoint import Checkpoint, fingerprint
from pawprint.training.curves import best_of, warning
from pawprint.training.device import ComputeParams, processes, start, stop
from pawprint.training.features import read_features
from pawprint.training.launch import launch, processes_wanted, started_by_others
from pawprint.training.learner import Learner, TrainingData, batch_sizes, fine_tune
from pawprint.training.model import load_body, refuse_size, save_model
from pawprint.training.recipe import TrainParams
from pawprint.training.stored import ModelConfig, hash_body

READ = (  # beside the table and the pictures
    "data/images.csv",
    "data/features.safetensors",
    "models/body.safetensors",
    "metrics/lr.json",
)
ENDS = (".csv", ".json")  # of the files of metrics


def main() -> None:
    arguments = parse_arguments()
    params, compute = load_params("train", TrainParams), load_params("compute", ComputeParams)
    if not share(arguments, params, compute):
        train(arguments, params, compute)


def share(arguments: argparse.Namespace, params: TrainParams, compute: ComputeParams) -> bool:
    """Let the workers of a cluster, or several processes of this machine, train together.

    Return whether they did. One process is enough for a copy, and if there is no second GPU.
    """
    engine = open_engine(compute)
    seen = select_seen(read_table(arguments.table))
    if started_by_others() or is_copy(arguments, seen):
        return False
    sizes = seen["split"].value_counts()
    most = min(*batch_sizes(sizes["train"], params.batch_size), sizes["valid"])
    if isinstance(engine, RayEngine):
        alone = argparse.Namespace(**{**vars(arguments), "first": None})
        checkpoint = checkpoint_of(arguments.model).as_posix()
        results = [arguments.model.as_posix(), *(arguments.metrics + end for end in ENDS)]
        train_on_cluster(
            engine,
            partial(train, alone, params, compute),
            reads=[arguments.table.as_posix(), *READ, *seen["path"]],
            checkpoint=checkpoint,
            writes=results,
            most=most,
            on_gpu=compute.device != "cpu",
        )
        return True
    count = processes_wanted(compute, most)
    if count > 1:
        launch("stages.train", sys.argv[1:], count)
    return count > 1


def train(arguments: argparse.Namespace, params: TrainParams, compute: ComputeParams) -> None:
    """Train in this process, which may be one of several, and write the model."""
    device = start(compute, params.seed)
    settled = read_json("metrics/lr.json")
    lrs = (settled["first_layers"], settled["head"])
    table = read_table(arguments.table)
    seen = select_seen(table)
    if is_copy(arguments, seen):
        copy_first(arguments)
        stop()
        return
    model, config = load_body(sorted(table["label"].unique()))
    refuse_size(model, config.arch, "train_size", params.train_size)
    data = load_data(seen, config)

    # a killed training goes on from its checkpoint, unless anything that it depends on has changed
    where = f"{device} {torch.get_num_threads()} {processes()[1]}"
    settings = f"{params} {lrs} {where} {seen.to_csv(index=False)}"
    name = fingerprint(settings, seen["path"], model.state_dict())
    checkpoint = Checkpoint(checkpoint_of(arguments.model), name)

    learner = Learner(model, config, data, params, lrs, device, checkpoint)
    epochs = fine_tune(learner)
    if processes()[0] == 0:
        save_model(arguments.model, model, config)
        write_metrics(arguments.metrics, learner)
        report(epochs, learner.final, len(config.classes))
        checkpoint.remove()
    stop()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="CSV with path, label and split")
    parser.add_argument("--model", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument(
        "--metrics", required=True, help="the .json and .csv to write, without the ending"
    )
    parser.add_argument(
        "--first",
        nargs=3,
        metavar=("TABLE", "MODEL", "METRICS"),
        help="the same of the first model, to copy if nothing that is trained on differs",
    )
    return parser.parse_args()


def select_seen(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows to train on and to validate with."""
    return table[table["split"].isin(["train", "valid"])]


def checkpoint_of(model: Path) -> Path:
    """Return where a training keeps its state."""
    return model.with_name(f".{model.stem}.checkpoint")


def is_copy(arguments: argparse.Namespace, seen: pd.DataFrame) -> bool:
    """Return whether training would give the first model again. seen: see `select_seen`."""
    if not arguments.first:
        return False
    before = select_seen(read_table(arguments.first[0]))
    columns = ["path", "label", "split"]
    return before[columns].to_numpy().tolist() == seen[columns].to_numpy().tolist()


def copy_first(arguments: argparse.Namespace) -> None:
    """Copy the first model and its metrics: training again would give the same bytes."""
    table, model, metrics = arguments.first
    if processes()[0] == 0:
        write_bytes(arguments.model, Path(model).read_bytes())
        for end in ENDS:
            write_bytes(arguments.metrics + end, Path(metrics + end).read_bytes())
        print(
            f"train: {arguments.table} holds the same pictures and labels as {table}; training "
            f"again would give the same bytes, so {arguments.model} is a copy of {model}",
            file=sys.stderr,
        )


def load_data(table: pd.DataFrame, config: ModelConfig) -> TrainingData:
    """Decode the train and valid splits."""
    targets = table["label"].map(config.classes.index)
    train, valid = (table[table["split"] == split] for split in ("train", "valid"))

    body = hash_body()

    def load(rows: pd.DataFrame, size: int) -> Pictures:
        return load_pictures(rows["path"].tolist(), size, config.resize, config.interpolation)

    def features(rows: pd.DataFrame) -> torch.Tensor:
        return torch.from_numpy(read_features(rows["path"].tolist(), "features", body))

    return TrainingData(
        train=load(train, round(config.size * PRESIZE)),
        train_features=features(train),
        train_targets=torch.tensor(targets[train.index].tolist()),
        valid=load(valid, config.size),
        valid_features=features(valid),
        valid_targets=torch.tensor(targets[valid.index].tolist()),
    )


def write_metrics(name: str, learner: Learner) -> None:
    """Write one row per epoch as CSV, and the figures of the model as JSON.

    Its blend is 0 if the head alone was trained.
    """
    epochs, figures = learner.rows, {}
    if epochs:
        last, best = {"blend": 0.0, **epochs[-1], **learner.final}, best_of(epochs)
        pictures = len(learner.data.valid)
        figures = error_rate(round(last["error_rate"] * pictures), pictures)
        figures |= {key: last[key] for key in ("train_loss", "valid_loss", "blend")}
        figures |= {"best_epoch": best["epoch"], "best_error_rate": best["error_rate"]}
    write_table(f"{name}.csv", pd.DataFrame(epochs))
    figures |= {"epochs": len(epochs), "lr": learner.lrs[1]}
    write_json(f"{name}.json", {**figures, "train_pictures": len(learner.data.train)})


def report(epochs: list[dict], final: dict, classes: int) -> None:
    """Print how the last and the best epoch did, the model, and what is wrong with the curves.

    The best of many noisy figures on a small valid split is best by luck, so no epoch is chosen:
    one cycle ends when the lr has fallen to nearly zero. final: of the model, if it was blended.
    """
    if epochs:
        last, best = epochs[-1], best_of(epochs)
        parts = [
            f"error {row['error_rate']:.4f} at the {word} epoch, {row['epoch']}"
            for word, row in (("last", last), ("best", best))
        ]
        if final:
            parts.append(f"{final['error_rate']:.4f} with blend {final['blend']}, the model")
        print(f"train: {'; '.join(parts)}", file=sys.stderr)
    if found := warning(epochs, classes):
        print(f"train: warning: {found}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(main)
