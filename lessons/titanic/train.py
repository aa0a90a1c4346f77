"""A linear model and a two-layer net for the passengers of the Titanic, in numpy, step by step.

Reads data/raw/titanic.csv. Writes data/passengers.csv (the table, train first) and data/start.csv
(the first weights), from which sheet.py builds the same computation as a spreadsheet. Also writes
metrics/titanic.json, and metrics/steps.csv: one row per step, with losses and accuracies.
Source: Howard, "Practical Deep Learning for Coders" 2022, lesson 3 with its spreadsheet, and the
notebook "Linear model and neural net from scratch".
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from pawprint.judging.errors import wilson
from pawprint.params import Params, StageError, load_params, run_stage
from pawprint.tables import read_table, require_columns, write_json, write_table

NUMBERS = ["Pclass", "Age", "SibSp", "Parch", "Fare"]
COLUMNS = ["Survived", "Sex", "Embarked", *NUMBERS]
# what the models see, in this order; sheet.py computes the same by formulas
FEATURES = ["siblings", "parents", "age", "log fare", "class 1", "class 2"]
FEATURES += ["from S", "from C", "male", "one"]

Array = NDArray[np.float64]


class FitParams(Params):
    """The section `fit` of params.yaml."""

    seed: int = Field(ge=0)
    valid_pct: float = Field(gt=0, lt=0.9)
    hidden: int = Field(ge=1, le=20)
    lr: float = Field(gt=0)
    steps: int = Field(ge=1, le=1000)


class Side(NamedTuple):
    """The passengers of a split. x: their features, (N, 10); y: 1 for who survived, (N,)."""

    x: Array
    y: Array


class Net(NamedTuple):
    """The weights of the net. first: (10, hidden); second: (hidden,); constant: ()."""

    first: Array
    second: Array
    constant: Array


def main() -> None:
    params = load_params("fit", FitParams)
    random = np.random.default_rng(params.seed)
    np.seterr(over="ignore", invalid="ignore")  # a loss without bounds is reported below

    # the passengers in random order: first those to train on, then those held out
    table = read_passengers("data/raw/titanic.csv")
    table = table.iloc[random.permutation(len(table))].reset_index(drop=True)
    count = len(table) - max(1, round(params.valid_pct * len(table)))
    x, y = features(table, count), table["Survived"].astype(float).to_numpy()
    train, valid = Side(x[:count], y[:count]), Side(x[count:], y[count:])
    splits = np.where(np.arange(len(table)) < count, "train", "valid")
    write_table("data/passengers.csv", table.assign(split=splits))

    # the first weights
    linear = random.normal(0, 0.1, len(FEATURES)).round(4)
    first = random.normal(0, 0.3, (len(FEATURES), params.hidden)).round(4)
    net = Net(first, random.normal(0, 0.3, params.hidden).round(4), np.zeros(()))
    write_table("data/start.csv", start_table(linear, net))

    # gradient descent: each step over all passengers of the train split
    rows = []
    for step in range(params.steps + 1):
        row: dict[str, float] = {"step": step}
        row |= judge("linear", train.x @ linear, train.y)
        row |= judge("linear_valid", valid.x @ linear, valid.y)
        row |= judge("net", answer(train.x, net), train.y)
        row |= judge("net_valid", answer(valid.x, net), valid.y)
        if not np.isfinite(list(row.values())).all():
            raise StageError(f"the loss has no bounds after {step} steps; lower fit.lr")
        rows.append(row)
        linear = linear - params.lr * linear_gradient(train, linear)
        gradients = net_gradients(train, net)
        net = Net(*(now - params.lr * by for now, by in zip(net, gradients, strict=True)))
    write_table("metrics/steps.csv", pd.DataFrame(rows))

    # beside what a model must beat: that nobody survives, and that the women do
    women = (table["Sex"] == "female").to_numpy()[count:]
    figures = {
        "nobody survives": judge("", np.zeros(len(valid.y)), valid.y),
        "women survive": judge("", women.astype(float), valid.y),
    }
    for name in ("linear", "net"):
        figures[name] = {key: rows[-1][f"{name}_valid_{key}"] for key in ("loss", "accuracy")}
    for each in figures.values():
        right = round(each["accuracy"] * len(valid.y))
        each["low"], each["high"] = wilson(right, len(valid.y))
    write_json("metrics/titanic.json", {"passengers": len(valid.y), "valid": figures})


def read_passengers(path: str) -> pd.DataFrame:
    """Return the table, its cells as text. Raises StageError that names a cell that cannot be."""
    table = read_table(path)
    require_columns(table, COLUMNS, path)
    if len(table) < 10:
        raise StageError(f"{path} has {len(table)} passengers; a training needs 10 or more")
    table = table[COLUMNS]
    for name in NUMBERS:
        allowed = r"\d+(\.\d+)?" if name != "Age" else r"(\d+(\.\d+)?)?"
        refuse(table, name, table[name].str.fullmatch(allowed), "a number, 0 or more", path)
    refuse(table, "Survived", table["Survived"].isin(["0", "1"]), "0 or 1", path)
    refuse(table, "Sex", table["Sex"].isin(["male", "female"]), "male or female", path)
    ports = table["Embarked"].isin(["S", "C", "Q", ""])
    refuse(table, "Embarked", ports, "S, C, Q or empty", path)
    return table


def refuse(table: pd.DataFrame, name: str, fine: pd.Series, allowed: str, path: str) -> None:
    """Raise StageError that names the first cell of a column which is not fine."""
    for row in table.index[~fine]:
        cell = table.loc[row, name]
        raise StageError(f"{path}, row {row + 1}: {name} is {cell!r}; it should be {allowed}")


def features(table: pd.DataFrame, count: int) -> Array:
    """Return what the models see, (N, 10). The first `count` rows are those of the train split.

    A missing age is the median of the train split's; all ages are divided by the largest there. The
    third class and the port Q have no column of their own: they are where the others are 0.
    Raises StageError if no age is known.
    """
    age = pd.to_numeric(table["Age"])
    if not age[:count].max() > 0:
        raise StageError("data/raw/titanic.csv: needs an age above 0 in the rows to train on")
    age = age.fillna(age[:count].median()) / age[:count].max()
    columns = [
        table["SibSp"].astype(float),
        table["Parch"].astype(float),
        age,
        np.log10(table["Fare"].astype(float) + 1),
        table["Pclass"].astype(float) == 1,
        table["Pclass"].astype(float) == 2,
        table["Embarked"] == "S",
        table["Embarked"] == "C",
        table["Sex"] == "male",
        np.ones(len(table)),
    ]
    return np.stack([np.asarray(column, dtype=float) for column in columns], axis=1)


def hidden(x: Array, net: Net) -> Array:
    """Return the hidden layer, (N, hidden): what is below 0 becomes 0."""
    return np.maximum(x @ net.first, 0)


def answer(x: Array, net: Net) -> Array:
    """Return the net's answers, (N,); above 0.5 a passenger is said to survive."""
    return hidden(x, net) @ net.second + net.constant


def linear_gradient(side: Side, weights: Array) -> Array:
    """Return the gradient of the linear model's mean squared error, (10,)."""
    return 2 * side.x.T @ (side.x @ weights - side.y) / len(side.y)


def net_gradients(side: Side, net: Net) -> Net:
    """Return the gradients of the net's mean squared error, in the shape of its weights."""
    layer = hidden(side.x, net)
    error = 2 * (answer(side.x, net) - side.y) / len(side.y)  # by the answers
    back = np.outer(error, net.second) * (layer > 0)  # by the hidden layer before the zeros
    return Net(side.x.T @ back, layer.T @ error, error.sum())


def judge(name: str, answers: Array, y: Array) -> dict[str, float]:
    """Return the mean squared error and the accuracy, as NAME_loss and NAME_accuracy."""
    prefix = f"{name}_" if name else ""
    loss, right = ((answers - y) ** 2).mean(), (answers > 0.5) == (y > 0.5)
    return {f"{prefix}loss": float(loss), f"{prefix}accuracy": float(right.mean())}


def start_table(linear: Array, net: Net) -> pd.DataFrame:
    """Return the first weights: a row for each feature, and one for the net's second layer."""
    table = pd.DataFrame({"weight of": [*FEATURES, "second layer"], "linear": [*linear, 0.0]})
    for unit, weights in enumerate(net.first.T):
        table[f"unit {unit + 1}"] = [*weights, net.second[unit]]
    return table


if __name__ == "__main__":
    run_stage(main)
