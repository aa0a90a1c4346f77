"""Look at the first model through its answers: what it confuses, where it is wrong, how sure it may be.

Reads models/first.safetensors, data/split.csv and data/images. Writes data/predictions.csv (a row for every train and
valid picture), metrics/interpret.json, metrics/confusion.csv, metrics/reliability.csv, plots/*.png
and report.html, one file that works offline.
All figures are of the valid split. The test split is not opened here: it stays unseen until evaluate.

Where the model looked is drawn with Grad-CAM: the last feature maps, weighted by the mean gradient of the predicted
class's logit, and what is below zero cut off (Selvaraju et al., arXiv:1610.02391).
"""

import base64
import io
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from pydantic import Field
from sklearn.metrics import precision_recall_fscore_support

from stages.params import Params, load_params, run_stage
from stages.tables import read_json, read_table, write_bytes, write_json, write_table
from stages.vision.batches import load_pictures
from stages.vision.device import ComputeParams, start
from stages.vision.grids import picture_grid
from stages.vision.model import ModelConfig, load_model, normalise
from stages.vision.tta import answer

THUMBNAIL = 160  # pixels a side
SHOWN = 8  # pictures in each of the smaller grids


class InterpretParams(Params):
    """The section `interpret` of params.yaml."""

    top_losses: int = Field(ge=1, le=400)


def main() -> None:
    params = load_params("interpret", InterpretParams)
    device = start(load_params("compute", ComputeParams), seed=0)
    model, config = load_model("models/first.safetensors")
    table = read_table("data/split.csv")
    table = table[table["split"] != "test"].reset_index(drop=True)
    answers = tabulate(table, answer(model, config, table["path"].tolist(), device).numpy(), list(config.classes))
    valid = answers[answers["split"] == "valid"].reset_index(drop=True)
    figures = summarise(valid, list(config.classes))
    write_table("data/predictions.csv", answers)
    write_table("metrics/confusion.csv", valid[["label", "prediction"]].set_axis(["actual", "predicted"], axis=1))
    write_json("metrics/interpret.json", figures)
    write_bytes("plots/confusion.png", draw_confusion(confusion_matrix(valid, list(config.classes))))
    bins = reliability(valid["probability"].to_numpy(), (valid["label"] == valid["prediction"]).to_numpy())
    write_table("metrics/reliability.csv", pd.DataFrame(bins))
    worst = valid.sort_values(["loss", "path"], ascending=[False, True]).head(params.top_losses)
    write_bytes("plots/top_losses.png", picture_grid(worst["path"], captions(worst)))
    sure = valid.sort_values(["loss", "path"]).head(params.top_losses)
    write_bytes("plots/most_correct.png", picture_grid(sure["path"], captions(sure)))
    squares = load_pictures(worst["path"].tolist(), config.size, config.resize, config.interpolation)
    model, _ = load_model("models/first.safetensors")  # anew: `predict` leaves weights that refuse gradients
    heat = grad_cam(model, squares, [list(config.classes).index(name) for name in worst["prediction"]], config, device)
    looks = [data_address(overlay(*pair)) for pair in zip(squares.numpy(), heat, strict=True)]
    write_bytes("report.html", render(figures, valid, worst, looks, bins, list(config.classes)).encode("utf-8"))


def grad_cam(
    model: torch.nn.Module, pictures: torch.Tensor, targets: list[int], config: ModelConfig, device: torch.device
) -> np.ndarray:
    """Where the model looked, (N, h, w) from 0 to 1, for uint8 pictures (N, S, S, 3) and a class index each.

    All zero where the model has no feature maps of four dimensions, as a vision transformer.
    """
    maps = []
    model = model.to(device).eval()
    for batch, wanted in zip(pictures.split(8), torch.tensor(targets).split(8), strict=True):
        seen = model.forward_features(normalise(batch.to(device), config))
        if seen.ndim != 4:
            return np.zeros((len(pictures), 1, 1))
        gradient = torch.autograd.grad(model.forward_head(seen).gather(1, wanted[:, None].to(device)).sum(), seen)[0]
        heat = (gradient.mean(dim=(2, 3), keepdim=True) * seen).sum(dim=1).relu()
        maps.append((heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).detach().cpu())
    return torch.cat(maps).numpy()


def overlay(picture: np.ndarray, heat: np.ndarray) -> Image.Image:
    """A picture (S, S, 3) under its heat (h, w): cold parts darkened, hot ones coloured."""
    size = (THUMBNAIL, THUMBNAIL)
    image = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
    level = np.asarray(Image.fromarray(np.uint8(heat * 255)).resize(size, Image.Resampling.BICUBIC)) / 255
    colour = matplotlib.colormaps["inferno"](level)[..., :3] * 255
    share = 0.25 + 0.4 * level[..., None]
    return Image.fromarray(np.uint8(image * (1 - share) + colour * share))


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
    rows = reliability(probability, right, bins)
    return sum(abs(row["sure"] - row["right"]) * row["pictures"] for row in rows) / len(probability)


def reliability(probability: np.ndarray, right: np.ndarray, bins: int = 10) -> list[dict[str, float | int]]:
    """How often the model is right when it is so sure: a row for each bin of confidence that holds pictures."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    return [
        {
            "from": b / bins,
            "to": (b + 1) / bins,
            "pictures": int((index == b).sum()),
            "sure": float(probability[index == b].mean()),
            "right": float(right[index == b].mean()),
        }
        for b in sorted(set(index.tolist()))
    ]


def galleries(valid: pd.DataFrame, classes: list[str]) -> list[tuple[str, str, pd.DataFrame]]:
    """The report's smaller grids: title, what it shows, and its rows of `valid`."""
    wrong = valid["label"] != valid["prediction"]
    rng = np.random.default_rng(0)
    mixed = valid.iloc[rng.permutation(len(valid))]
    grids = [
        ("Least sure", "The model hesitates most here.", valid.sort_values(["probability", "path"])),
        ("Right, at random", "What it gets right, not picked.", mixed[~wrong.loc[mixed.index]]),
        ("Wrong, at random", "What it gets wrong, not picked.", mixed[wrong.loc[mixed.index]]),
    ]
    for name in classes:
        of_class = valid[valid["label"] == name].sort_values(["loss", "path"])
        missed = of_class["label"] != of_class["prediction"]
        grids.append((f"{name}: most correct", "Surest and right.", of_class[~missed]))
        grids.append((f"{name}: most incorrect", "Surest and wrong.", of_class[missed][::-1]))
    return [(title, text, rows.head(SHOWN)) for title, text, rows in grids]


def confusion_matrix(valid: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """How often each class (row) is taken for each (column)."""
    return pd.crosstab(valid["label"], valid["prediction"]).reindex(index=classes, columns=classes, fill_value=0)


def draw_confusion(confusion: pd.DataFrame) -> bytes:
    """The confusion matrix as a PNG, darker for a larger share of its row; the same input gives the same bytes."""
    side = 2.2 + 0.7 * len(confusion)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="actual")
    share = confusion.to_numpy() / confusion.sum(axis=1).clip(lower=1).to_numpy()[:, None]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(confusion)), confusion.columns, rotation=45, ha="right")
    axes.set_yticks(range(len(confusion)), confusion.index)
    for (row, column), part in np.ndenumerate(share):
        colour = "white" if part > 0.5 else "black"
        axes.text(column, row, str(confusion.iloc[row, column]), ha="center", va="center", color=colour)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def captions(rows: pd.DataFrame) -> list[str]:
    return [f"{r.prediction} / {r.label}\n{r.loss:.2f} / {r.probability:.2f}" for r in rows.itertuples()]


def render(
    figures: dict, valid: pd.DataFrame, worst: pd.DataFrame, looks: list[str], bins: list[dict], classes: list[str]
) -> str:
    """The report as one HTML page with its pictures inside. looks: a data: address for every row of `worst`."""
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("report.html.j2")
    confusion = confusion_matrix(valid, classes)
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
        bins=bins,
        most_confused=sorted(pairs, key=lambda pair: -pair[2]),
        worst=[(thumbnail(row.path), look, row) for row, look in zip(worst.itertuples(), looks, strict=True)],
        galleries=[
            (title, text, [(thumbnail(row.path), row) for row in rows.itertuples()])
            for title, text, rows in galleries(valid, classes)
        ],
        n_valid=len(valid),
        n_wrong=int((valid["label"] != valid["prediction"]).sum()),
        beside=beside(read_json("metrics/baseline.json")["valid"], figures["error_rate"]),
    )


def beside(baseline: dict[str, float], error: float) -> list[tuple[str, float]]:
    """The errors that the model's is to be compared with, and its own, each with its name."""
    names = {
        "majority_error": "the most frequent class",
        "pixel_l1_error": "nearest mean picture, L1",
        "pixel_l2_error": "nearest mean picture, L2",
        "linear_error": "linear head on frozen features",
    }
    return [*((text, baseline[key]) for key, text in names.items()), ("this model", error)]


def thumbnail(path: str) -> str:
    """A small square of a picture as a data: address."""
    with Image.open(path) as image:
        return data_address(ImageOps.fit(image.convert("RGB"), (THUMBNAIL, THUMBNAIL)))


def data_address(image: Image.Image) -> str:
    """A picture as a data: address, about 5 kB."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


if __name__ == "__main__":
    run_stage(main)
