"""Judge both models on the same test pictures, which nothing has seen until now.

Reads models/{linear,first,retrained}.safetensors, data/split.csv, data/cleaned.csv and
data/images. Writes metrics/evaluate.json, metrics/test_confusion.csv (of the retrained model),
data/test_predictions.csv and models/better.safetensors, a copy of the model that valid prefers.

The baselines (see the stage baseline) answer about the same pictures, so that the table shows what
the deep model buys. Errors come with Wilson's 95 % interval, and whether the models really differ
is tested on pairs of answers. The figures are given with the labels as gathered and with those as
cleaned, which differ if a person's decision changed test labels.
"""

from pathlib import Path

import pandas as pd
import torch

from pawprint.judging.baselines import BaselineParams, pixel_answers
from pawprint.judging.comparison import compare_pair
from pawprint.judging.errors import BASELINES, MODELS, error_of
from pawprint.judging.figures import confusion_table
from pawprint.judging.tta import EvaluateParams, predict_files
from pawprint.params import load_params, run_stage
from pawprint.tables import read_table, write_bytes, write_json, write_table
from pawprint.training.device import ComputeParams, start
from pawprint.training.model import load_model
from pawprint.training.recipe import TrainParams


def main() -> None:
    baseline, evaluate = (
        load_params("baseline", BaselineParams),
        load_params("evaluate", EvaluateParams),
    )
    recipe = load_params("train", TrainParams)
    device = start(load_params("compute", ComputeParams), seed=0)
    views = recipe if evaluate.tta else None
    split, cleaned = read_table("data/split.csv"), read_table("data/cleaned.csv")
    train, test = select(split, "train"), select(split, "test")
    paths, valid = test["path"].tolist(), select(cleaned, "valid")

    # what baselines and models answer about test
    given = {"majority": train["label"].mode()[0], **pixel_answers(train, paths, baseline.size)}
    for name in ("linear", *MODELS):
        given[name] = ask(name, paths, device, views)
    answers = test.assign(**given)
    as_cleaned = select(cleaned, "test").merge(answers.drop(columns="label"), on="path")

    # the better model is chosen on valid, never on test
    on_valid = {}
    for name in MODELS:
        wrong = valid["label"] != ask(name, valid["path"].tolist(), device, views)
        on_valid[name] = error_of(wrong.to_numpy())
    better = choose(on_valid)
    write_bytes("models/better.safetensors", Path(f"models/{better}.safetensors").read_bytes())

    confusion = confusion_table(as_cleaned.assign(prediction=as_cleaned["retrained"]))
    write_table("data/test_predictions.csv", answers)
    write_table("metrics/test_confusion.csv", confusion)
    write_json(
        "metrics/evaluate.json",
        {
            "as_gathered": judge(answers),
            "as_cleaned": judge(as_cleaned),
            "valid": on_valid,
            "better": better,
        },
    )


def select(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return path and label of one split."""
    return table.loc[table["split"] == split, ["path", "label"]].reset_index(drop=True)


def ask(name: str, paths: list[str], device: torch.device, views: TrainParams | None) -> list[str]:
    """Return the class that a model gives each picture."""
    model, config = load_model(f"models/{name}.safetensors")
    probabilities = predict_files(model, config, paths, device, views)
    return [config.classes[i] for i in probabilities.argmax(dim=1).tolist()]


def choose(on_valid: dict[str, dict]) -> str:
    """Return the model with fewer wrong pictures on the cleaned valid split; retrained on a tie."""
    better = on_valid["first"]["wrong"] < on_valid["retrained"]["wrong"]
    return "first" if better else "retrained"


def judge(answers: pd.DataFrame) -> dict[str, object]:
    """Return the errors of baselines and models on the same pictures, and whether they differ.

    answers: columns label, and what each of BASELINES and MODELS answers.
    """
    wrong = {name: (answers[name] != answers["label"]).to_numpy() for name in BASELINES + MODELS}
    cleaning = ("before cleaning", "after")
    body = ("by a linear head", "by the retrained model")
    p, needed, text = compare_pair(wrong["first"], wrong["retrained"], cleaning)
    _, _, gain = compare_pair(wrong["linear"], wrong["retrained"], body)
    return {
        **{name: error_of(values) for name, values in wrong.items()},
        "mcnemar_p": p,
        "pictures_needed": needed,
        "summary": text,
        "beyond_linear": gain,
    }


if __name__ == "__main__":
    run_stage(main)
