"""Turn the model that won into a folder that runs anywhere without torch: ONNX, the resize rule, a page, a model card.

Reads models/*.safetensors, metrics and the pictures. Writes export/ and metrics/export.json.
Normalisation, temperature, softmax and the score for "none of these" are inside the ONNX graph, which takes uint8
pictures, so that they cannot be got wrong. reference.json is what the graph says of valid, for `pawprint drift`.
The stage fails where ONNX and torch disagree on a single test picture. With export.quantize the graph computes in int8,
if its test error lies within the interval of the float model's.
"""

import hashlib
import io
import json
import shutil
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import pandas as pd
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from pawprint.errors import error_of
from stages.params import Params, StageError, load_params, load_yaml, run_stage
from stages.sources import PICTURES
from stages.tables import read_json, read_table, write_bytes, write_json
from stages.vision.batches import load_pictures
from stages.vision.device import ComputeParams, start
from stages.vision.int8 import quantize
from stages.vision.model import ModelConfig, load_model
from stages.vision.none import KEPT, Classifier, drawn_strangers
from stages.vision.predict import features
from stages.vision.recipe import TrainParams

SHIPPED = Path("pawprint/shipped")
EXPORT = Path("export")
TOLERANCE = 1e-4
ROUNDING = 1e-5  # by which a score may differ in another batch: no picture may sit right on the threshold
OUTPUTS = ("probabilities", "none_score")
MOST_STRANGERS = 1000  # pictures read from export.strangers at most, evenly spaced
CALIBRATION = 128  # training pictures that set the ranges for int8
QUANTILES = 1000  # confidences kept in reference.json at most


class ExportParams(Params):
    """The section `export` of params.yaml."""

    model: Literal["first", "retrained", "better"]
    quantize: bool
    strangers: str


def main() -> None:
    params = load_params("export", ExportParams)
    name = choose(params.model)
    device = start(load_params("compute", ComputeParams), seed=0)
    model, config = load_model(f"models/{name}.safetensors")
    learnt = read_table("data/cleaned.csv" if name == "retrained" else "data/split.csv")
    train, valid = (learnt[learnt["split"] == split] for split in ("train", "valid"))
    test = read_table("data/split.csv").query("split == 'test'")
    pictures = {key: read(rows["path"].tolist(), config) for key, rows in (("valid", valid), ("test", test))}
    strange = {**drawn_strangers(30, config.size), **photographs(params.strangers, config)}
    bank = features(model, read(train["path"].tolist(), config), config, device)
    seen = features(model, pictures["valid"], config, device)
    with torch.no_grad():
        classifier = make_classifier(model.cpu(), config, bank, seen, valid["label"].tolist())
    content = to_onnx(classifier, config.size)
    said = ask(content, pictures["test"])
    difference = compare(said, classifier, pictures["test"])
    error, wrong = test_error(said[0], test["label"], config)
    int8 = {}
    if params.quantize:
        small = quantize(content, read(train["path"].tolist()[:: max(1, len(train) // CALIBRATION)], config))
        said_in_int8 = ask(small, pictures["test"])
        in_int8, wrong_in_int8 = test_error(said_in_int8[0], test["label"], config)
        int8 = {"kept": in_int8["error_rate"] <= error["high"], **in_int8, "onnx_bytes": len(small)}
        if int8["kept"]:
            content, said, error, wrong = small, said_in_int8, in_int8, wrong_in_int8
    none, reference = judge(content, pictures["valid"], said[1], strange, config)
    card = model_card(name, config, test=error, confusions=wrong, difference=difference, stranger=none, int8=int8)
    write_export(content, config, classifier, none, reference, card)
    write_json(
        "metrics/export.json",
        {
            "model": name,
            "onnx_bytes": len(content),
            "pictures_compared": len(test),
            "agrees_within": TOLERANCE,
            "temperature": classifier.temperature.item(),
            "test": error,
            "none_of_these": none,
            **({"int8": int8} if int8 else {}),
        },
    )


def read(paths: list[str], config: ModelConfig) -> Tensor:
    """Pictures as the model takes them, uint8 (N, S, S, 3)."""
    return load_pictures(paths, config.size, config.resize, config.interpolation)


def photographs(folder: str, config: ModelConfig) -> dict[str, Tensor]:
    """The pictures of something else in the folder of export.strangers, if there are any.

    Raises StageError where one cannot be read.
    """
    paths = sorted(str(path) for path in Path(folder).rglob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        return {}
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(MOST_STRANGERS, len(paths))).round().astype(int))
    try:
        return {"photographs": read([paths[i] for i in chosen], config)}
    except StageError as error:
        raise StageError(f"export.strangers: {str(error).partition(';')[0]}; take it out of the folder") from None


def make_classifier(model: nn.Module, config: ModelConfig, bank: Tensor, seen: Tensor, labels: list[str]) -> Classifier:
    """The graph to export, calibrated on valid.

    bank: features (N, F) of train; seen, labels: features (M, F) of valid and its labels. Test chooses nothing.
    """
    classifier = Classifier(model, config).eval()
    classifier.remember(bank)
    classifier.calibrate(seen, torch.tensor([config.classes.index(label) for label in labels]))
    return classifier


def judge(
    content: bytes, pictures: Tensor, test: np.ndarray, strange: dict[str, Tensor], config: ModelConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The threshold for "none of these", set on valid, with its figures on test and strangers; what is seen on valid.

    pictures: of valid; strange: of every kind of stranger; all uint8 (N, S, S, 3). test: the scores of test, (M,).
    """
    probabilities, valid = ask(content, pictures)
    threshold = round(float(np.quantile(valid, KEPT, method="higher")) + ROUNDING, 6)
    none: dict[str, Any] = {
        "threshold": threshold,
        "valid_kept": float((valid <= threshold).mean()),
        "test_kept": float((test <= threshold).mean()),
        "strangers": {},
    }
    for kind, others in strange.items():
        _, scores = ask(content, others)
        none["strangers"][kind] = {
            "pictures": len(scores),
            "auroc": float(roc_auc_score([0] * len(test) + [1] * len(scores), np.concatenate([test, scores]))),
            "accepted": float((scores <= threshold).mean()),
        }
    confidence = np.sort(probabilities.max(axis=1))
    chosen = np.unique(np.linspace(0, len(valid) - 1, min(QUANTILES, len(valid))).round().astype(int))
    answers = np.bincount(probabilities.argmax(axis=1), minlength=len(config.classes))
    return none, {
        "pictures": len(valid),
        "classes": dict(zip(config.classes, answers.tolist(), strict=True)),
        "none": int((valid > threshold).sum()),
        "confidence": confidence[chosen].tolist(),
    }


def ask(content: bytes, pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """probabilities (N, classes) and none_score (N,) that an ONNX graph gives uint8 pictures (N, S, S, 3)."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    batches = pictures.split(4)  # larger ones are slower
    answers = [session.run(list(OUTPUTS), {"pictures": batch.numpy()}) for batch in batches]
    return np.concatenate([each for each, _ in answers]), np.concatenate([each for _, each in answers])


def test_error(
    probabilities: np.ndarray, labels: pd.Series, config: ModelConfig
) -> tuple[dict[str, Any], list[tuple[str, str, int]]]:
    """The error of what a graph says of the test pictures, with Wilson's interval, and its confusions, often first.

    probabilities: (N, classes); labels: as gathered. A confusion is actual, predicted, pictures.
    """
    answers = pd.Series([config.classes[i] for i in probabilities.argmax(axis=1)], index=labels.index)
    wrong = labels != answers
    pairs = Counter(zip(labels[wrong], answers[wrong], strict=True))
    return error_of(wrong.to_numpy()), [
        (*pair, n) for pair, n in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    ]


def write_export(
    content: bytes, config: ModelConfig, classifier: Classifier, none: dict, reference: dict, card: str
) -> None:
    """Fill export/ anew."""
    shutil.rmtree(EXPORT, ignore_errors=True)
    write_bytes(EXPORT / "model.onnx", content)
    extra = {"temperature": classifier.temperature.item(), "none_threshold": none["threshold"]}
    write_json(EXPORT / "model.json", {**asdict(config), **extra})
    write_json(EXPORT / "reference.json", reference)
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


def compare(said: tuple[np.ndarray, np.ndarray], classifier: Classifier, pictures: Tensor) -> float:
    """The largest difference of an output between ONNX, which `said` so, and torch over the pictures.

    Raises StageError where a class differs, or an output by more than 1e-4.
    """
    ours, none = said
    with torch.inference_mode():
        answers = [classifier(batch) for batch in pictures.split(32)]
    theirs, also = (torch.cat(each).numpy() for each in zip(*answers, strict=True))
    largest = max(float(np.abs(ours - theirs).max()), float(np.abs(none - also).max()))
    if (ours.argmax(axis=1) != theirs.argmax(axis=1)).any() or largest > TOLERANCE:
        raise StageError(f"ONNX and torch disagree (an output by {largest:.1e}, allowed {TOLERANCE:.0e})")
    return largest


def model_card(name: str, config: ModelConfig, **figures: Any) -> str:
    """The README of export/, with the front matter of a Hugging Face Space, from the metrics."""
    template = Environment(
        loader=FileSystemLoader(SHIPPED), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("README.md.j2")
    return template.render(
        title=" or ".join(config.classes) + "?",
        classes=config.classes,
        config=asdict(config),
        model=name,
        baseline=read_json("metrics/baseline.json")["valid"]["pixel_l1_error"],
        split=read_json("metrics/split.json"),
        params=load_params("train", TrainParams),
        source=load_yaml(Path("params.yaml"))["gather"]["source"],
        hashes=dependencies(),
        **figures,
    )


def dependencies() -> dict[str, str]:
    """The DVC hash of everything this stage depends on by dvc.yaml, data and code: what dvc.lock will say of it."""
    paths = load_yaml(Path("dvc.yaml"))["stages"]["export"]["deps"]
    return {path: dvc_hash(Path(path)) for path in paths if "$" not in path}


def dvc_hash(path: Path) -> str:
    """DVC's hash of a file, md5, or of a folder: md5 of its list of files and their hashes, as JSON, with `.dir`."""
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    files = [each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts]
    entries = [{"md5": dvc_hash(each), "relpath": each.relative_to(path).as_posix()} for each in files]
    entries.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest() + ".dir"


if __name__ == "__main__":
    run_stage(main)
