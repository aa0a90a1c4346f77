"""Turn the model that won into a folder that runs anywhere without torch: ONNX, the resize rule, a page, a model card.

Reads models/*.safetensors, metrics and the test pictures. Writes export/ and metrics/export.json.
Normalisation and softmax are inside the ONNX graph, which takes uint8 pictures, so that they cannot be got wrong.
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
from torch import Tensor, nn

from stages.params import Params, StageError, load_params, run_stage
from stages.tables import read_json, read_table, write_bytes, write_json
from stages.vision.batches import load_pictures
from stages.vision.device import ComputeParams, start
from stages.vision.model import ModelConfig, load_model, normalise
from stages.vision.recipe import TrainParams

SHIPPED = Path("pawprint/shipped")
EXPORT = Path("export")
TOLERANCE = 1e-4


class ExportParams(Params):
    """The section `export` of params.yaml."""

    model: Literal["first", "retrained", "better"]


class Classifier(nn.Module):
    """The exported graph: uint8 pictures (N, S, S, 3) in, probabilities (N, classes) out."""

    def __init__(self, model: nn.Module, config: ModelConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, pictures: Tensor) -> Tensor:
        return self.model(normalise(pictures, self.config)).softmax(dim=1)


def main() -> None:
    name = choose(load_params("export", ExportParams).model)
    start(load_params("compute", ComputeParams), seed=0)
    model, config = load_model(f"models/{name}.safetensors")
    classifier = Classifier(model, config).eval()
    content = to_onnx(classifier, config.size)
    table = read_table("data/split.csv")
    paths = table.loc[table["split"] == "test", "path"].tolist()
    difference = compare(content, classifier, paths, config)
    shutil.rmtree(EXPORT, ignore_errors=True)
    write_bytes(EXPORT / "model.onnx", content)
    write_json(EXPORT / "model.json", asdict(config))
    write_bytes(EXPORT / "README.md", model_card(name, config, difference).encode("utf-8"))
    for file in ("predict.py", "app.py", "requirements.txt"):
        shutil.copyfile(SHIPPED / file, EXPORT / file)
    write_json(
        "metrics/export.json",
        {"model": name, "onnx_bytes": len(content), "pictures_compared": len(paths), "agrees_within": TOLERANCE},
    )


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
            output_names=["probabilities"],
            dynamic_axes={"pictures": {0: "batch"}, "probabilities": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()


def compare(content: bytes, classifier: Classifier, paths: list[str], config: ModelConfig) -> float:
    """The largest difference of a probability between ONNX and torch over the pictures.

    Raises StageError where a class differs, or a probability by more than 1e-4.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in load_pictures(paths, config.size, config.resize, config.interpolation).split(32):
        (ours,) = session.run(None, {"pictures": batch.numpy()})
        with torch.inference_mode():
            theirs = classifier(batch).numpy()
        largest = max(largest, float(np.abs(ours - theirs).max()))
        if (ours.argmax(axis=1) != theirs.argmax(axis=1)).any() or largest > TOLERANCE:
            raise StageError(f"ONNX and torch disagree (a probability by {largest:.1e}, allowed {TOLERANCE:.0e})")
    return largest


def model_card(name: str, config: ModelConfig, difference: float) -> str:
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
    )


if __name__ == "__main__":
    run_stage(main)
