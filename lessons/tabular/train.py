"""Who earns more than 50,000? Entity embeddings beside boosted trees and logistic regression.

Reads data/raw/adult.csv. Writes data/answers.csv (what each model says of each held-out row),
metrics/tabular.json (accuracy with its interval, log loss and calibration of each), the net's
losses as metrics/curve.csv, and calibration as metrics/calibration.csv and plots/calibration.png.
All models see the same rows. None is chosen or stopped by the held-out ones: a fair test.

A category that is missing, or that only a held-out row has, is one more category. A number that is
missing is the median, and a column says so.
Source: Guo and Berkhahn, "Entity embeddings of categorical variables", arXiv:1604.06737; Howard and
Gugger, "Deep Learning for Coders with fastai and PyTorch", chapters 1 and 9.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field, model_validator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from pawprint.judging.errors import wilson
from pawprint.judging.figures import calibration_error, reliability
from pawprint.params import Params, StageError, load_params, run_stage
from pawprint.tables import (
    png_of,
    read_table,
    require_columns,
    write_bytes,
    write_json,
    write_table,
)
from pawprint.training.device import ComputeParams, start
from pawprint.training.schedule import one_cycle

Array = NDArray[np.float64]
TABLE = "data/raw/adult.csv"


class TableParams(Params):
    """The section `table` of params.yaml."""

    target: str
    positive: str
    categories: list[str]
    numbers: list[str]
    missing: str
    valid_pct: float = Field(gt=0, lt=0.9)
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _names_each_column_once(self) -> "TableParams":
        names = [self.target, *self.categories, *self.numbers]
        if len(set(names)) < len(names) or not self.categories + self.numbers:
            raise ValueError("should name some categories or numbers, and no column twice")
        return self


class NetParams(Params):
    """The section `net` of params.yaml."""

    seed: int = Field(ge=0, lt=2**32)
    layers: list[int] = Field(min_length=1)
    epochs: int = Field(ge=1, le=1000)
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


@dataclass(frozen=True)
class Rows:
    """Rows of the table, as the models see them.

    categories: (N, C), whole numbers; 0 is missing or unseen. numbers: (N, M), mean 0, deviation 1.
    y: (N,), 1 where the target is the positive value.
    """

    categories: NDArray[np.int64]
    numbers: NDArray[np.float32]
    y: NDArray[np.int64]


def main() -> None:
    table_params, net_params = load_params("table", TableParams), load_params("net", NetParams)
    start(ComputeParams(device="cpu", threads=1), net_params.seed)

    # the same rows for all: some to train on, the others held out
    table = read_rows(table_params)
    held_out = np.zeros(len(table), dtype=bool)
    order = np.random.default_rng(table_params.seed).permutation(len(table))
    held_out[order[: max(1, round(table_params.valid_pct * len(table)))]] = True
    train, valid, sizes = encode(table, held_out, table_params)

    # three models, and what each must beat
    said_by_net, curve = train_net(train, valid, sizes, net_params)
    logistic = LogisticRegression(max_iter=5000).fit(as_dummies(train, sizes), train.y)
    trees = HistGradientBoostingClassifier(
        categorical_features=[i for i, size in enumerate(sizes) if size < 255],
        random_state=net_params.seed,
    ).fit(side_by_side(train), train.y)
    said = {
        "majority": np.full(len(valid.y), train.y.mean()),
        "logistic": logistic.predict_proba(as_dummies(valid, sizes))[:, 1],
        "trees": trees.predict_proba(side_by_side(valid))[:, 1],
        "embeddings": said_by_net,
    }

    # side by side on the held-out rows
    figures = {name: judge(each, valid.y) for name, each in said.items()}
    write_json("metrics/tabular.json", {"rows": len(valid.y), "valid": figures})
    write_table("metrics/curve.csv", pd.DataFrame(curve))
    calibration = calibration_table(said, valid.y)
    write_table("metrics/calibration.csv", calibration)
    write_bytes("plots/calibration.png", draw(calibration))
    write_table("data/answers.csv", table[held_out].assign(**said))


def read_rows(params: TableParams) -> pd.DataFrame:
    """Return the table, its cells as text, "" where a value is missing.

    Raises StageError for a column that is not there, a target that does not have two values, and a
    cell that should be a number.
    """
    table = read_table(TABLE)
    columns = [*params.categories, *params.numbers, params.target]
    require_columns(table, columns, TABLE)
    table = table[columns]
    table = table.apply(lambda column: column.str.strip()).replace(params.missing, "")
    values = sorted(set(table[params.target]))
    if len(values) != 2 or params.positive not in values or "" in values:
        shown = ", ".join(map(repr, values[:5]))
        raise StageError(
            f"{TABLE}: {params.target} holds {shown}; it should hold two values, one of them "
            f"table.positive, {params.positive!r}"
        )
    for name in params.numbers:
        numbers = pd.to_numeric(table[name], errors="coerce")
        for row in table.index[~np.isfinite(numbers) & (table[name] != "")]:
            cell = table.loc[row, name]
            raise StageError(f"{TABLE}, row {row + 1}: {name} is {cell!r}, which is no number")
    return table


def encode(
    table: pd.DataFrame, held_out: NDArray[np.bool_], params: TableParams
) -> tuple[Rows, Rows, list[int]]:
    """Return the rows of both splits, and how many values each category has, 0 included.

    All that is learnt of a column (its values, median, mean, deviation) is learnt from train alone.
    """
    categories, numbers, sizes = [], [], []
    for name in params.categories:
        known = sorted(set(table[name][~held_out]) - {""})
        place = {value: i + 1 for i, value in enumerate(known)}
        categories.append(table[name].map(place).fillna(0).to_numpy(np.int64))
        sizes.append(len(known) + 1)
    for name in params.numbers:
        column = pd.to_numeric(table[name]).to_numpy(float)
        missing = np.isnan(column)
        if missing[~held_out].all():
            raise StageError(f"{TABLE}: {name} has no values; take it out of table.numbers")
        column = np.where(missing, np.median(column[~held_out & ~missing]), column)
        mean, deviation = column[~held_out].mean(), column[~held_out].std()
        numbers.append((column - mean) / max(deviation, 1e-9))
        if missing.any():
            numbers.append(missing.astype(float))
    y = (table[params.target] == params.positive).to_numpy(np.int64)
    none = np.zeros((len(y), 0))  # begins both blocks, because one of them may be empty
    codes = np.column_stack([none, *categories]).astype(np.int64)
    scaled = np.column_stack([none, *numbers]).astype(np.float32)
    if len(set(y[~held_out])) < 2:
        raise StageError(f"{TABLE}: all rows to train on have one {params.target}; give more rows")
    train, valid = (Rows(codes[side], scaled[side], y[side]) for side in (~held_out, held_out))
    return train, valid, sizes


class Net(nn.Module):
    """fastai's tabular model: an embedding for each category, batch-norm, and hidden layers."""

    def __init__(self, sizes: list[int], numbers: int, layers: list[int]) -> None:
        super().__init__()
        widths = [min(600, round(1.6 * size**0.56)) for size in sizes]
        embeddings = list(map(nn.Embedding, sizes, widths))
        for embedding in embeddings:
            nn.init.trunc_normal_(embedding.weight, std=0.01)
        self.embeddings = nn.ModuleList(embeddings)
        self.norm = nn.BatchNorm1d(numbers) if numbers else nn.Identity()
        width, hidden = sum(widths) + numbers, []
        for units in layers:
            hidden += [nn.Linear(width, units, bias=False), nn.ReLU(), nn.BatchNorm1d(units)]
            width = units
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 1))

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        """Return logits, (N,), for categories, (N, C), and numbers, (N, M)."""
        embedded = [each(categories[:, i]) for i, each in enumerate(self.embeddings)]
        return self.layers(torch.cat([*embedded, self.norm(numbers)], dim=1))[:, 0]


def train_net(
    train: Rows, valid: Rows, sizes: list[int], params: NetParams
) -> tuple[Array, list[dict[str, float]]]:
    """Train the net; return its probabilities for valid, (N,), and its losses after each epoch."""
    x, numbers, y = map(torch.from_numpy, (train.categories, train.numbers, train.y))
    net = Net(sizes, numbers.shape[1], params.layers)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=params.weight_decay, eps=1e-5)
    generator = torch.Generator().manual_seed(params.seed)
    curve, done = [], 0.0
    for epoch in range(1, params.epochs + 1):
        net.train()
        total = 0.0
        batches = torch.randperm(len(y), generator=generator).split(params.batch_size)
        for batch in batches:
            # the learning rate and momentum of this step
            factor, momentum = one_cycle(done, pct_start=0.25, div=25.0)
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = params.lr * factor, (momentum, 0.99)
            done += 1 / (params.epochs * len(batches))
            if len(batch) == 1:  # batch-norm needs two
                continue
            # forward, backward, update
            logits = net(x[batch], numbers[batch])
            loss = binary_cross_entropy_with_logits(logits, y[batch].float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        if not np.isfinite(total):
            raise StageError(f"the loss of epoch {epoch} is not a number: lower net.lr")
        said = ask(net, valid)
        valid_loss = log_loss(valid.y, said, labels=[0, 1])
        curve.append({"epoch": epoch, "train_loss": total / len(y), "valid_loss": valid_loss})
    return said, curve


@torch.no_grad()
def ask(net: Net, rows: Rows) -> Array:
    """Return the net's probability of the positive value for each row, (N,)."""
    logits = net.eval()(torch.from_numpy(rows.categories), torch.from_numpy(rows.numbers))
    return logits.double().sigmoid().numpy()


def as_dummies(rows: Rows, sizes: list[int]) -> Array:
    """Return the rows for a linear model: a column for each value of each category."""
    codes = torch.from_numpy(rows.categories)
    dummies = [one_hot(codes[:, i], size).numpy() for i, size in enumerate(sizes)]
    return np.concatenate([*dummies, rows.numbers], axis=1)


def side_by_side(rows: Rows) -> Array:
    """Return the rows for trees: categories as they are, then numbers."""
    return np.concatenate([rows.categories, rows.numbers], axis=1)


def judge(said: Array, y: NDArray[np.int64]) -> dict[str, float]:
    """Return accuracy with its 95 % interval, log loss, and the expected calibration error."""
    right = int(((said > 0.5) == (y == 1)).sum())
    low, high = wilson(right, len(y))
    return {
        "accuracy": right / len(y),
        "low": low,
        "high": high,
        "log_loss": log_loss(y, said, labels=[0, 1]),
        "calibration_error": calibration_error(said, y == 1),
    }


def calibration_table(said: dict[str, Array], y: NDArray[np.int64]) -> pd.DataFrame:
    """Return, for each model and tenth of probability, what it said and how often it was so."""
    rows = [
        {"model": name, "said": row["sure"], "was": row["right"], "rows": row["pictures"]}
        for name, each in said.items()
        for row in reliability(each, y == 1)
    ]
    return pd.DataFrame(rows)


def draw(calibration: pd.DataFrame) -> bytes:
    """Return a PNG: a line for each model; on the diagonal it is as often so as the model said."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="dashed")
    for name, rows in calibration.groupby("model", sort=False):
        axes.plot(rows["said"], rows["was"], marker="o", label=name)
    axes.set(xlabel="probability that a model said", ylabel="share of these rows where it was so")
    axes.legend()
    return png_of(figure)


if __name__ == "__main__":
    run_stage(main)
