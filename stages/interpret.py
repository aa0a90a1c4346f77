"""Look at the first model through its answers: what it confuses, where it is wrong, how sure it is.

Reads models/first.safetensors, metrics/baseline.json, data/gathered.csv (for licences),
data/split.csv, data/properties.csv and data/images. Writes data/predictions.csv (one row per train
and valid picture), metrics/interpret.json, metrics/classes.csv (precision and recall of each class,
empty if not measured), metrics/confusion.csv, metrics/reliability.csv, plots/*.png and report.html,
one file that works offline.

All figures are of the valid split. The test split is not opened here: it stays unseen until
evaluate.
"""

import pandas as pd
import torch
from pydantic import Field

from pawprint.compute.choice import open_engine
from pawprint.judging.correlations import find_correlations
from pawprint.judging.figures import confusion_table, reliability, summarise, tabulate
from pawprint.judging.grad_cam import grad_cam, overlay
from pawprint.judging.grids import picture_grid
from pawprint.judging.licences import count_licences
from pawprint.judging.picture_faults import list_faults, read_properties
from pawprint.judging.report import THUMBNAIL, captions, draw_confusion, render
from pawprint.judging.tta import EvaluateParams, answer, ask, load_questions
from pawprint.params import Params, load_params, run_stage
from pawprint.pictures.batches import load_pictures
from pawprint.tables import read_json, read_table, write_bytes, write_json, write_table
from pawprint.training.device import ComputeParams, start
from pawprint.training.model import load_model
from pawprint.training.recipe import TrainParams

MODEL = "models/first.safetensors"


class InterpretParams(Params):
    """The section `interpret` of params.yaml."""

    top_losses: int = Field(ge=1, le=400)


def main() -> None:
    params = load_params("interpret", InterpretParams)
    evaluate, recipe = load_params("evaluate", EvaluateParams), load_params("train", TrainParams)
    compute = load_params("compute", ComputeParams)
    engine = open_engine(compute)
    device = start(compute, seed=0)
    model, config = load_model(MODEL)
    classes = list(config.classes)

    # what the model answers about train and valid
    table = read_table("data/split.csv")
    licences, _ = count_licences(table["path"].tolist())
    table = table[table["split"] != "test"].reset_index(drop=True)
    views = recipe if evaluate.tta else None
    paths = table["path"].tolist()
    if engine.is_remote:
        probabilities = ask(engine, compute, model, config, paths, views)
    else:
        probabilities = answer(model, config, load_questions(paths, config, views), device)
    answers = tabulate(table, probabilities.numpy(), classes)
    write_table("data/predictions.csv", answers)

    # its figures on valid
    valid = answers[answers["split"] == "valid"].reset_index(drop=True)
    figures = summarise(valid, classes)
    right = valid["label"] == valid["prediction"]
    bins = reliability(valid["probability"].to_numpy(), right.to_numpy())
    by_class = pd.DataFrame.from_dict(figures["classes"], orient="index")
    write_json("metrics/interpret.json", {k: v for k, v in figures.items() if k != "classes"})
    write_table("metrics/classes.csv", by_class.rename_axis("class").reset_index())
    write_table("metrics/reliability.csv", pd.DataFrame(bins))
    write_table("metrics/confusion.csv", confusion_table(valid))

    # the pictures: confusion matrix, top losses, most correct
    worst = valid.sort_values(["loss", "path"], ascending=[False, True]).head(params.top_losses)
    surest = valid.sort_values(["loss", "path"]).head(params.top_losses)
    write_bytes("plots/confusion.png", draw_confusion(valid, classes))
    write_bytes("plots/top_losses.png", picture_grid(worst["path"].tolist(), captions(worst)))
    write_bytes("plots/most_correct.png", picture_grid(surest["path"].tolist(), captions(surest)))

    # what is wrong with the pictures themselves, and what goes with their labels
    measured = read_properties(table["path"].tolist())
    labelled = measured.assign(label=table["label"].tolist())
    faults = list_faults(measured)

    # where the model looked, and the report
    paths = worst["path"].tolist()
    squares = load_pictures(paths, config.size, config.resize, config.interpolation)
    model, _ = load_model(MODEL)  # again: after inference, its weights refuse gradients
    targets = [classes.index(name) for name in worst["prediction"]]
    heat = grad_cam(model, squares, targets, config, device)
    looks = []
    for i, each in enumerate(heat):
        square = squares[torch.tensor([i])][0].numpy()
        looks.append(overlay(square, each, THUMBNAIL))
    baselines = read_json("metrics/baseline.json")["valid"]
    correlations = find_correlations(labelled)
    page = render(
        figures, valid, worst, looks, bins, baselines, classes, faults, correlations, licences
    )
    write_bytes("report.html", page.encode("utf-8"))


if __name__ == "__main__":
    run_stage(main)
