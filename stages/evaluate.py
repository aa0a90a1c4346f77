"""Judge all models on the same test pictures, which nothing has seen until now.

Reads models/{linear,first,retrained}.safetensors, data/features.safetensors, data/images.csv,
data/split.csv, data/cleaned.csv and data/images. Writes metrics/evaluate.json,
metrics/test_confusion.csv (of the retrained model), data/test_predictions.csv and
models/better.safetensors, a copy of the model that valid prefers: the linear head, the first or
the retrained one.

The baselines (see the stage baseline) answer about the same pictures, so that the table shows what
the deep model buys. Errors come with Wilson's 95 % interval, and whether the models really differ
is tested on pairs of answers. The figures are given with the labels as gathered and with those as
cleaned, which differ if a person's decision changed test labels.
"""

from pathlib import Path

import pandas as pd

from pawprint.compute.choice import open_engine
from pawprint.compute.engine import Engine
from pawprint.judging.baselines import BaselineParams, pixel_answers
from pawprint.judging.comparison import compare_pair
from pawprint.judging.errors import BASELINES, CANDIDATES, MODELS, error_of
from pawprint.judging.figures import confusion_table
from pawprint.judging.tta import EvaluateParams, answer, ask, load_questions
from pawprint.params import load_params, run_stage
from pawprint.tables import read_table, write_bytes, write_json, write_table
from pawprint.training.device import ComputeParams, start
from pawprint.training.features import read_features
from pawprint.training.model import load_model
from pawprint.training.recipe import TrainParams
from pawprint.training.stored import read_linear


def main() -> None:
    baseline = load_params("baseline", BaselineParams)
    evaluate = load_params("evaluate", EvaluateParams)
    recipe = load_params("train", TrainParams)
    compute = load_params("compute", ComputeParams)
    engine = open_engine(compute)
    views = recipe if evaluate.tta else None
    split, cleaned = read_table("data/split.csv"), read_table("data/cleaned.csv")
    train, test, valid = select(split, "train"), select(split, "test"), select(cleaned, "valid")

    # what the models answer about test and valid
    paths = [*test["path"], *valid["path"]]
    answers = {"linear": ask_linear(paths), **ask_models(paths, engine, compute, views)}

    # what baselines and models answer about test
    squeezed = pixel_answers(train, test["path"].tolist(), baseline.size)
    given = {"majority": train["label"].mode()[0], **squeezed}
    given |= {name: found[: len(test)] for name, found in answers.items()}
    as_gathered = test.assign(**given)
    as_cleaned = select(cleaned, "test").merge(as_gathered.drop(columns="label"), on="path")

    # the better model is chosen on valid, never on test
    on_valid = {}
    for name in CANDIDATES:
        wrong = valid["label"] != answers[name][len(test) :]
        on_valid[name] = error_of(wrong.to_numpy())
    better = min(CANDIDATES, key=lambda name: on_valid[name]["wrong"])
    write_bytes("models/better.safetensors", Path(f"models/{better}.safetensors").read_bytes())

    confusion = confusion_table(as_cleaned.assign(prediction=as_cleaned["retrained"]))
    write_table("data/test_predictions.csv", as_gathered)
    write_table("metrics/test_confusion.csv", confusion)
    write_json(
        "metrics/evaluate.json",
        {
            "as_gathered": judge(as_gathered),
            "as_cleaned": judge(as_cleaned),
            "valid": on_valid,
            "better": better,
        },
    )


def ask_linear(paths: list[str]) -> list[str]:
    """Return the class that the linear head gives each picture, from its stored features."""
    classes, weight, bias = read_linear(Path("models/linear.safetensors"))
    best = (read_features(paths, "features") @ weight.T + bias).argmax(axis=1)
    return [classes[i] for i in best]


def ask_models(
    paths: list[str], engine: Engine, compute: ComputeParams, views: TrainParams | None
) -> dict[str, list[str]]:
    """Return the classes that the first and the retrained model give each picture.

    A retrained model that is a copy of the first is not asked.
    """
    device = start(compute, seed=0)
    answers: dict[str, list[str]] = {}
    asked: dict[bytes, list[str]] = {}
    questions = None
    for name in MODELS:
        path = Path(f"models/{name}.safetensors")
        model, config = load_model(path)
        content = path.read_bytes()
        if content not in asked:
            if engine.is_remote:
                found = ask(engine, compute, model, config, paths, views)
            else:
                questions = questions or load_questions(paths, config, views)
                found = answer(model, config, questions, device)
            best = found.argmax(dim=1).tolist()
            asked[content] = [config.classes[i] for i in best]
        answers[name] = asked[content]
    return answers


def select(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return path and label of one split."""
    return table.loc[table["split"] == split, ["path", "label"]].reset_index(drop=True)


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
