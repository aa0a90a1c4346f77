"""Look at the first model through its answers: what it confuses, where it is wrong, how sure it may be.

Reads models/first.safetensors, data/split.csv and data/images. Writes data/predictions.csv (a row for every train and
valid picture), metrics/interpret.json, metrics/confusion.csv, plots/*.png and report.html, one file that works offline.
All figures are of the valid split. The test split is not opened here: it stays unseen until evaluate.
"""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from pydantic import Field
from sklearn.metrics import precision_recall_fscore_support

from stages.params import Params, load_params, run_stage
from stages.tables import read_json, read_table, write_bytes, write_json, write_table
from stages.vision.batches import load_pictures
from stages.vision.device import ComputeParams, start
from stages.vision.grids import picture_grid
from stages.vision.model import load_model
from stages.vision.predict import predict

THUMBNAIL = 160  # pixels on the longer side


class InterpretParams(Params):
    """The section `interpret` of params.yaml."""

    top_losses: int = Field(ge=1, le=400)


def main() -> None:
    params = load_params("interpret", InterpretParams)
    device = start(load_params("compute", ComputeParams), seed=0)
    model, config = load_model("models/first.safetensors")
    table = read_table("data/split.csv")
    table = table[table["split"] != "test"].reset_index(drop=True)
    pictures = load_pictures(table["path"].tolist(), config.size, config.resize, config.interpolation)
    answers = tabulate(table, predict(model, pictures, config, device).numpy(), list(config.classes))
    valid = answers[answers["split"] == "valid"]
    figures = summarise(valid, list(config.classes))
    write_table("data/predictions.csv", answers)
    write_table("metrics/confusion.csv", valid[["label", "prediction"]].set_axis(["actual", "predicted"], axis=1))
    write_json("metrics/interpret.json", figures)
    worst = valid.sort_values("loss", ascending=False, kind="stable").head(params.top_losses)
    write_bytes("plots/top_losses.png", picture_grid(worst["path"], captions(worst)))
    sure = valid.sort_values("loss", kind="stable").head(params.top_losses)
    write_bytes("plots/most_correct.png", picture_grid(sure["path"], captions(sure)))
    write_bytes("report.html", render(figures, valid, worst, list(config.classes)).encode("utf-8"))


def tabulate(table: pd.DataFrame, probabilities: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """A row a picture: path, label, split, prediction, probability, loss, margin, and a column p_CLASS a class.

    probabilities: (N, classes). loss: -log of the label's probability; margin: the label's less the best other's.
    """
    target = table["label"].map(classes.index).to_numpy()
    rows = np.arange(len(table))
    of_label = probabilities[rows, target]
    others = probabilities.copy()
    others[rows, target] = -1
    best = probabilities.argmax(axis=1)
    answers = table[["path", "label", "split"]].assign(
        prediction=np.array(classes, dtype=object)[best],
        probability=probabilities[rows, best],
        loss=-np.log(np.maximum(of_label, 1e-12)),
        margin=of_label - others.max(axis=1),
    )
    for i, name in enumerate(classes):
        answers[f"p_{name}"] = probabilities[:, i]
    return answers


def summarise(answers: pd.DataFrame, classes: list[str]) -> dict[str, object]:
    """Error, mean loss, calibration error and, a class, precision, recall and support."""
    wrong = answers["label"] != answers["prediction"]
    precision, recall, _, support = precision_recall_fscore_support(
        answers["label"], answers["prediction"], labels=classes, zero_division=0
    )
    return {
        "error_rate": float(wrong.mean()),
        "loss": float(answers["loss"].mean()),
        "calibration_error": calibration_error(answers["probability"].to_numpy(), ~wrong.to_numpy()),
        "classes": {
            name: {"precision": float(p), "recall": float(r), "support": int(n)}
            for name, p, r, n in zip(classes, precision, recall, support, strict=True)
        },
    }


def calibration_error(probability: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart, on average over equal-width bins.

    probability: (N,) of the predicted class; right: (N,) bool.
    Source: Guo et al., "On calibration of modern neural networks", arXiv:1706.04599.
    """
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [abs(probability[index == b].mean() - right[index == b].mean()) * (index == b).mean() for b in set(index)]
    return float(sum(gaps))


def captions(rows: pd.DataFrame) -> list[str]:
    return [f"{r.prediction} / {r.label}\n{r.loss:.2f} / {r.probability:.2f}" for r in rows.itertuples()]


def render(figures: dict, valid: pd.DataFrame, worst: pd.DataFrame, classes: list[str]) -> str:
    """The report as one HTML page with its pictures inside."""
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("report.html.j2")
    confusion = pd.crosstab(valid["label"], valid["prediction"]).reindex(index=classes, columns=classes, fill_value=0)
    pairs = [
        (actual, predicted, int(confusion.loc[actual, predicted]))
        for actual in classes
        for predicted in classes
        if actual != predicted and confusion.loc[actual, predicted]
    ]
    return template.render(
        figures=figures,
        classes=classes,
        confusion=confusion,
        most_confused=sorted(pairs, key=lambda pair: -pair[2]),
        worst=[(thumbnail(row.path), row) for row in worst.itertuples()],
        n_valid=len(valid),
        n_wrong=int((valid["label"] != valid["prediction"]).sum()),
        baseline=read_json("metrics/baseline.json")["valid"],
    )


def thumbnail(path: str) -> str:
    """A small picture as a data: address."""
    with Image.open(path) as image:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


if __name__ == "__main__":
    run_stage(main)
