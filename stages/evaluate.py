"""Judge both models on the same test pictures, which nothing has seen until now, and say whether they really differ.

Reads models/{linear,first,retrained}.safetensors, data/split.csv, data/cleaned.csv and data/images. Writes
metrics/evaluate.json, metrics/test_confusion.csv (of the retrained model) and data/test_predictions.csv.
The baselines (see baseline) answer about the same pictures, so that the table shows what the deep model buys.

Errors come with Wilson's 95 % interval (Wilson, JASA 22, 1927). The models are compared on pairs: only pictures that
one gets right and the other wrong speak, in McNemar's exact test (McNemar, Psychometrika 12, 1947). How many pictures
it would take to see a difference of the size found is Connor's formula (Biometrics 43, 1987) at a power of 80 %.
The figures are given with the labels as gathered and, where cleaning changed test labels, with those as cleaned.
"""

import math

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm

from pawprint.errors import error_of
from stages.params import load_params, run_stage
from stages.pixels import BaselineParams, pixel_answers
from stages.tables import read_table, write_json, write_table
from stages.vision.device import ComputeParams, start
from stages.vision.model import load_model
from stages.vision.tta import answer

MODELS = ("first", "retrained")
BASELINES = ("majority", "pixel_l1", "pixel_l2", "linear")


def main() -> None:
    compute = load_params("compute", ComputeParams)
    split, cleaned = (read_table(f"data/{name}.csv") for name in ("split", "cleaned"))
    answers = select(split, "test")
    paths, train, valid = answers["path"].tolist(), select(split, "train"), select(cleaned, "valid")
    given = {
        "majority": train["label"].mode()[0],
        **pixel_answers(train, paths, load_params("baseline", BaselineParams).size),
        **{name: ask(name, paths, compute) for name in ("linear", *MODELS)},
    }
    answers = answers.assign(**given)
    as_cleaned = select(cleaned, "test").merge(answers.drop(columns="label"), on="path")
    report = {"as_gathered": compare(answers), "as_cleaned": compare(as_cleaned), "valid": {}}
    for name in MODELS:
        wrong = np.array(ask(name, valid["path"].tolist(), compute)) != valid["label"]
        report["valid"][name] = {"error_rate": float(wrong.mean()), "wrong": int(wrong.sum()), "pictures": len(wrong)}
    write_table("data/test_predictions.csv", answers)
    confusion = as_cleaned[["label", "retrained"]].set_axis(["actual", "predicted"], axis=1)
    write_table("metrics/test_confusion.csv", confusion)
    write_json("metrics/evaluate.json", report)


def select(table: pd.DataFrame, split: str) -> pd.DataFrame:
    return table.loc[table["split"] == split, ["path", "label"]].reset_index(drop=True)


def ask(name: str, paths: list[str], compute: ComputeParams) -> list[str]:
    """The class that a model gives each picture."""
    device = start(compute, seed=0)
    model, config = load_model(f"models/{name}.safetensors")
    return [config.classes[i] for i in answer(model, config, paths, device).argmax(dim=1).tolist()]


def compare(answers: pd.DataFrame) -> dict[str, object]:
    """Errors of baselines and models on the same pictures, their intervals, and what the pairs of answers say.

    answers: columns label, and what each of BASELINES and MODELS answers.
    """
    wrong = {name: (answers[name] != answers["label"]).to_numpy() for name in (*BASELINES, *MODELS)}
    p, needed, text = judge_pair(wrong["first"], wrong["retrained"], ("before cleaning", "after"))
    _, _, gain = judge_pair(wrong["linear"], wrong["retrained"], ("by a linear head", "by the retrained model"))
    errors = {name: error_of(values) for name, values in wrong.items()}
    return {**errors, "mcnemar_p": p, "pictures_needed": needed, "summary": text, "beyond_linear": gain}


def judge_pair(one: np.ndarray, other: np.ndarray, names: tuple[str, str]) -> tuple[float, int, str]:
    """McNemar's exact p, the pictures needed to see the difference, and both in plain words.

    one, other: which pictures each gets wrong, (pictures,) bool; names: how to call each.
    """
    won, lost = int((one & ~other).sum()), int((~one & other).sum())
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    needed = pictures_needed(won, lost, len(one))
    return p, needed, summary(int(one.sum()), int(other.sum()), len(one), p, needed, names)


def pictures_needed(won: int, lost: int, n: int) -> int:
    """How many test pictures it would take to see this difference in four experiments of five; 0 where there is none.

    won, lost: of `n` pictures those that only the second model gets right, and only the first.
    """
    differ, gap = (won + lost) / n, abs(won - lost) / n
    if gap == 0:
        return 0
    sided, power = norm.ppf(0.975), norm.ppf(0.8)
    return math.ceil(((sided * math.sqrt(differ) + power * math.sqrt(differ - gap**2)) / gap) ** 2)


def summary(before: int, after: int, n: int, p: float, needed: int, names: tuple[str, str]) -> str:
    """The comparison in plain words."""
    counts = f"{before} of {n} wrong {names[0]}, {after} of {n} {names[1]}"
    if p < 0.05:
        exact = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
        return f"{counts}: the {'better' if after < before else 'worse'} result is unlikely to be chance ({exact})"
    text = f"{counts}: no evidence of a difference at this size (p = {p:.2f})"
    if needed > n:
        digits = 10 ** max(len(str(needed)) - 2, 0)
        text += f"; about {round(needed / digits) * digits} test pictures would be needed to see it"
    return text


if __name__ == "__main__":
    run_stage(main)
