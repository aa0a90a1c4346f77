"""Turn the model that won into a folder that runs anywhere without torch: ONNX, the resize rule, a page, a model card.

Reads models/*.safetensors, metrics and the pictures. Writes export/ and metrics/export.json.
Normalisation, temperature, softmax and the score for "none of these" are inside the ONNX graph, which takes uint8
pictures, so that they cannot be got wrong.
The stage fails where ONNX and torch disagree on a single test picture.
"""

import io
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from stages.params import Params, StageError, load_params, run_stage
from stages.tables import read_json, read_table, write_bytes, write_json
from stages.vision.batches import load_pictures
from stages.vision.device import ComputeParams, start
from stages.vision.model import ModelConfig, load_model
from stages.vision.none import KEPT, Classifier, strangers
from stages.vision.predict import features
from stages.vision.recipe import TrainParams

SHIPPED = Path("pawprint/shipped")
EXPORT = Path("export")
TOLERANCE = 1e-4
OUTPUTS = ("probabilities", "none_score")


class ExportParams(Params):
    """The section `export` of params.yaml."""

    model: Literal["first", "retrained", "better"]


def main() -> None:
    name = choose(load_params("export", ExportParams).model)
    device = start(load_params("compute", ComputeParams), seed=0)
    model, config = load_model(f"models/{name}.safetensors")
    table = read_table("data/cleaned.csv" if name == "retrained" else "data/split.csv")
    rows = {split: table[table["split"] == split] for split in ("train", "valid")}
    seen = {split: see(model, part["path"].tolist(), config, device) for split, part in rows.items()}
    with torch.no_grad():
        classifier, none = make_classifier(model.cpu(), config, seen, rows["valid"]["label"].tolist())
    content = to_onnx(classifier, config.size)
    tested = read_table("data/split.csv").query("split == 'test'")["path"].tolist()
    difference = compare(content, classifier, tested, config)
    write_export(content, config, classifier, none, model_card(name, config, difference, none))
    write_json(
        "metrics/export.json",
        {
            "model": name,
            "onnx_bytes": len(content),
            "pictures_compared": len(tested),
            "agrees_within": TOLERANCE,
            "temperature": classifier.temperature.item(),
            "none_of_these": none,
        },
    )


def see(model: nn.Module, paths: list[str], config: ModelConfig, device: torch.device) -> Tensor:
    """The features (N, F) of pictures."""
    pictures = load_pictures(paths, config.size, config.resize, config.interpolation)
    return features(model, pictures, config, device)


def make_classifier(
    model: nn.Module, config: ModelConfig, seen: dict[str, Tensor], labels: list[str]
) -> tuple[Classifier, dict[str, float]]:
    """The graph to export, calibrated on valid, and the figures of its answer "none of these".

    seen: features of the train and valid splits; labels: of the valid split. The test split chooses nothing.
    """
    classifier = Classifier(model, config).eval()
    classifier.remember(seen["train"])
    classifier.calibrate(seen["valid"], torch.tensor([config.classes.index(label) for label in labels]))
    _, inside = classifier.answer(seen["valid"])
    outside = torch.cat([classifier(batch)[1] for batch in strangers(120, config.size).split(32)])
    threshold = round(float(np.quantile(inside.numpy(), KEPT)), 6)
    return classifier, {
        "threshold": threshold,
        "valid_kept": (inside <= threshold).float().mean().item(),
        "generated_auroc": roc_auc_score([0] * len(inside) + [1] * len(outside), torch.cat([inside, outside]).tolist()),
        "generated_accepted": (outside <= threshold).float().mean().item(),
    }


def write_export(content: bytes, config: ModelConfig, classifier: Classifier, none: dict, card: str) -> None:
    """Fill export/ anew."""
    shutil.rmtree(EXPORT, ignore_errors=True)
    write_bytes(EXPORT / "model.onnx", content)
    extra = {"temperature": classifier.temperature.item(), "none_threshold": none["threshold"]}
    write_json(EXPORT / "model.json", {**asdict(config), **extra})
    write_bytes(EXPORT / "README.md", card.encode("utf-8"))
    for file in ("predict.py", "app.py", "requirements.txt"):
        shutil.copyfile(SHIPPED / file, EXPORT / file)


def choose(wanted: str) -> str:
    """`better` is the lower error on the cleaned valid split, retrained on a tie: the test split must not choose."""
    if wanted != "better":
        return wanted
    valid = read_json("metrics/evaluate.json")["valid"]
    return "first" if valid["first"]["wrong"] < valid["retrained"]["wrong"] else "retrained"


def to_onnx(classifier: Classifier, size: int) -> bytes:
    """The classifier as ONNX, for batches of any number; the same weights give the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own notes about tracing and its newer exporter
        torch.onnx.export(
            classifier,
            (torch.zeros(2, size, size, 3, dtype=torch.uint8),),
            buffer,
            input_names=["pictures"],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in ("pictures", *OUTPUTS)},
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()


def compare(content: bytes, classifier: Classifier, paths: list[str], config: ModelConfig) -> float:
    """The largest difference of an output between ONNX and torch over the pictures.

    Raises StageError where a class differs, or an output by more than 1e-4.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in load_pictures(paths, config.size, config.resize, config.interpolation).split(32):
        ours, none = session.run(list(OUTPUTS), {"pictures": batch.numpy()})
        with torch.inference_mode():
            theirs, also = (output.numpy() for output in classifier(batch))
        largest = max(largest, float(np.abs(ours - theirs).max()), float(np.abs(none - also).max()))
        if (ours.argmax(axis=1) != theirs.argmax(axis=1)).any() or largest > TOLERANCE:
            raise StageError(f"ONNX and torch disagree (an output by {largest:.1e}, allowed {TOLERANCE:.0e})")
    return largest


def model_card(name: str, config: ModelConfig, difference: float, none: dict[str, float]) -> str:
    """The README of export/, with the front matter of a Hugging Face Space, from the metrics."""
    answers = read_table("data/test_predictions.csv")
    wrong = answers[answers["label"] != answers[name]]
    pairs = wrong.groupby(["label", name]).size().sort_values(ascending=False, kind="stable")
    template = Environment(
        loader=FileSystemLoader(SHIPPED), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("README.md.j2")
    return template.render(
        title=" or ".join(config.classes) + "?",
        classes=config.classes,
        config=asdict(config),
        model=name,
        test=read_json("metrics/evaluate.json")["as_gathered"][name],
        baseline=read_json("metrics/baseline.json")["valid"]["pixel_l1_error"],
        confusions=[(*pair, int(n)) for pair, n in pairs.items()],
        split=read_json("metrics/split.json"),
        params=load_params("train", TrainParams),
        difference=difference,
        stranger=none,
    )


if __name__ == "__main__":
    run_stage(main)
