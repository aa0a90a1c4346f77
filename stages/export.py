"""Turn the model that won into a folder that runs anywhere without torch.

Reads models/*.safetensors, data/features.safetensors, metrics, the pictures, data/gathered.csv (for
their licences) and requirements.lock (for the page's). Writes export/ and
metrics/export.json.

export/ holds the ONNX graph, the resize rule, a page and a model card. Normalisation, temperature,
softmax and the score for "none of these" are inside the graph, which takes uint8 pictures, so a
caller cannot get them wrong. reference.json is what the graph says about valid, for
`pawprint drift`. The stage fails if ONNX and torch disagree on a single test picture. With
export.quantize the graph computes in int8, if its error on valid lies within the interval of the
float graph's; test only reports. With export.explain the graph also says why; nearest.json names
the training pictures that it compares with. With export.page browser or both, export/browser/ is
a static Space.
"""

import re
import shutil
import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import AfterValidator

from pawprint.exporting.browser import find_runtime, write_browser
from pawprint.exporting.card import SHIPPED, model_card
from pawprint.exporting.explain import NO_MAPS
from pawprint.exporting.graph import (
    TOLERANCE,
    ExportGraph,
    bank_rows,
    build_graph,
    check_explanations,
    check_onnx,
    run_onnx,
    to_onnx,
)
from pawprint.exporting.int8 import quantize
from pawprint.exporting.pins import pin
from pawprint.judging.errors import error_of
from pawprint.judging.none_of_these import (
    draw_strangers,
    load_strangers,
    measure_threshold,
    reference_of,
    set_threshold,
)
from pawprint.params import Params, load_params, load_yaml, run_stage
from pawprint.pictures import picture_name
from pawprint.pictures.batches import Pictures, load_pictures
from pawprint.pictures.storing import VerifyParams
from pawprint.tables import read_json, read_table, write_bytes, write_json
from pawprint.training.device import ComputeParams, start
from pawprint.training.features import read_features
from pawprint.training.inference import compute_features
from pawprint.training.model import load_model
from pawprint.training.recipe import TrainParams
from pawprint.training.stored import ModelConfig
from pawprint.watch import Watch

EXPORT = Path("export")
PICTURES = Path("pawprint/pictures")
OPENING = ("__init__.py", "colours.py", "formats.py", "opening.py", "square.py")  # for predict.py
REQUIREMENTS = "requirements.txt"
CALIBRATION = 128  # training pictures that set the ranges for int8


def check_licence(text: str) -> str:
    """Return a licence's name. Raises ValueError, for pydantic, if the Hub has none such."""
    if text and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", text):
        raise ValueError("should be a licence as the Hub spells it, such as apache-2.0 or mit")
    return text


class ExportParams(Params):
    """The section `export` of params.yaml."""

    model: Literal["linear", "first", "retrained", "better"]
    licence: Annotated[str, AfterValidator(check_licence)]
    quantize: bool
    explain: bool
    page: Literal["gradio", "browser", "both"]
    strangers: str


@dataclass(frozen=True)
class Candidate:
    """An ONNX graph that may be exported, and what it answers about the test pictures.

    probabilities: (N, classes); scores: (N,) for "none of these"; error: with its interval;
    confusions: (actual, predicted, pictures), the most frequent first.
    """

    content: bytes
    probabilities: np.ndarray
    scores: np.ndarray
    error: dict[str, Any]
    confusions: list[tuple[str, str, int]]


def main() -> None:
    params, recipe = load_params("export", ExportParams), load_params("train", TrainParams)
    source = load_yaml(Path("params.yaml"))["gather"]["source"]
    verify = load_params("verify", VerifyParams)
    how = verify.preparation(read_json("metrics/verify.json").get("ranges", {}))
    watch = Watch(params.strangers)
    runtime = None if params.page == "gradio" else find_runtime()  # before the work
    device = start(load_params("compute", ComputeParams), seed=0)
    judged = read_json("metrics/evaluate.json")
    name = judged["better"] if params.model == "better" else params.model
    model, config = load_model(f"models/{params.model}.safetensors")

    # the pictures: train and valid with their labels as cleaned, test as gathered
    split, cleaned = read_table("data/split.csv"), read_table("data/cleaned.csv")
    train, valid = (cleaned[cleaned["split"] == side] for side in ("train", "valid"))
    test = split[split["split"] == "test"]
    known = train.iloc[bank_rows(train["label"])]
    both, linear = pd.concat([known, valid]), name == "linear"
    pictures, test_pictures = load_rows(valid if linear else both, config), load_rows(test, config)
    valid_pictures = pictures[len(pictures) - len(valid) :]

    # the graph, calibrated on valid, and the candidate that valid prefers; of the linear head all
    # is known, because the frozen body has seen all pictures
    features = features_of(both) if linear else compute_features(model, pictures, config, device)
    bank, seen = features.split([len(known), len(valid)])
    targets = torch.tensor(valid["label"].map(config.classes.index).tolist())
    graph = build_graph(model, config, bank, seen, targets, params.explain)
    plain = ask_about_test(to_onnx(graph, config.size), test_pictures, test["label"], config)
    difference = check_onnx(plain.probabilities, plain.scores, graph, test_pictures)
    if params.explain:
        check_explanations(plain.content, graph, next(iter(test_pictures.split(4))))
    chosen, int8 = plain, dict[str, Any]()
    if params.quantize:
        part = train.iloc[:: max(1, len(train) // CALIBRATION)]
        content = quantize(plain.content, load_rows(part, config))
        small = ask_about_test(content, test_pictures, test["label"], config)
        chosen, int8 = choose_int8(plain, small, valid_pictures, targets)

    # none of these: the threshold from valid, its figures from test and strangers
    probabilities, scores = run_onnx(chosen.content, valid_pictures)
    threshold = set_threshold(scores)
    strangers = draw_strangers(30, config.size) | load_strangers(params.strangers, config, how)
    strange = {kind: run_onnx(chosen.content, each)[1] for kind, each in strangers.items()}
    none = measure_threshold(threshold, scores, chosen.scores, strange)

    # the folder, and its figures
    figures = {"difference": difference, "stranger": none, "int8": int8}
    figures |= {"test": chosen.error, "confusions": chosen.confusions}
    figures |= {"model": name, "source": source, "baselines": judged["as_gathered"]}
    requirements, versions = pin((SHIPPED / REQUIREMENTS).read_text(encoding="utf-8"))
    figures |= {"licence": params.licence, "versions": versions, "page": params.page}
    temperature = graph.temperature.item()
    how = replace(how, min_size=1)  # a small picture is answered, not refused
    model_json = {**asdict(config), "prepare": asdict(how)}
    model_json |= {"temperature": temperature, "none_threshold": threshold}
    model_json |= explanations(graph, params.explain)
    reference = reference_of(probabilities, scores, threshold, config.classes)
    card = model_card(config, recipe, split, **figures)
    write_export(chosen.content, model_json, reference, card)
    if params.explain:
        names = known["path"].map(picture_name).tolist()
        write_json(EXPORT / "nearest.json", {"pictures": names, "labels": known["label"].tolist()})
    if params.page != "browser":  # what makes the folder a Space with a server
        write_bytes(EXPORT / REQUIREMENTS, requirements.encode("utf-8"))
        shutil.copyfile(SHIPPED / "app.py", EXPORT / "app.py")
    if runtime is not None:
        shown = {"classes": config.classes, "test": chosen.error, "licence": params.licence}
        write_browser(EXPORT / "browser", EXPORT, runtime, **shown)
    write_figures(name, chosen, len(test), temperature, none, int8)
    watch.refuse_changes()


def explanations(graph: ExportGraph, explain: bool) -> dict[str, Any]:
    """Return what model.json says about what the graph can explain; nothing if it should not."""
    if not explain:
        return {}
    if graph.maps is None:
        print(f"export.explain: {graph.config.arch} {NO_MAPS}", file=sys.stderr)
        return {"explains": ["nearest"]}
    return {"explains": ["maps", "nearest"]}


def choose_int8(
    plain: Candidate, small: Candidate, pictures: Pictures, targets: torch.Tensor
) -> tuple[Candidate, dict[str, Any]]:
    """Return the int8 graph if its error on valid is within the interval of the float graph's.

    Otherwise return the float graph. The figures say what was found. pictures: of valid, uint8
    (N, S, S, 3); targets: their classes, (N,).
    """
    in_float, in_int8 = (error_on_valid(each, pictures, targets) for each in (plain, small))
    kept = in_int8["error_rate"] <= in_float["high"]
    size = len(small.content)
    figures = {"kept": kept, "valid": in_int8, "test": small.error, "onnx_bytes": size}
    return (small if kept else plain), figures


def write_figures(
    name: str,
    chosen: Candidate,
    compared: int,
    temperature: float,
    none: dict[str, Any],
    int8: dict[str, Any],
) -> None:
    """Write metrics/export.json; compared: test pictures on which ONNX and torch agree."""
    figures = {
        "model": name,
        "onnx_bytes": len(chosen.content),
        "pictures_compared": compared,
        "agrees_within": TOLERANCE,
        "temperature": temperature,
        "test": chosen.error,
        "none_of_these": none,
    }
    write_json("metrics/export.json", figures | ({"int8": int8} if int8 else {}))


def load_rows(rows: pd.DataFrame, config: ModelConfig) -> Pictures:
    """Load the pictures of a table as the model takes them, uint8 (N, S, S, 3)."""
    return load_pictures(rows["path"].tolist(), config.size, config.resize, config.interpolation)


def features_of(rows: pd.DataFrame) -> torch.Tensor:
    """Return what the frozen body saw in the pictures of a table, (N, F)."""
    return torch.from_numpy(read_features(rows["path"].tolist(), "features"))


def ask_about_test(
    content: bytes, pictures: Pictures, labels: pd.Series, config: ModelConfig
) -> Candidate:
    """Run an ONNX graph on the test pictures (N, S, S, 3) and count its errors; labels: (N,)."""
    probabilities, scores = run_onnx(content, pictures)
    answers = pd.Series([config.classes[i] for i in probabilities.argmax(axis=1)], labels.index)
    wrong = labels != answers
    pairs = Counter(zip(labels[wrong], answers[wrong], strict=True))
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    confusions = [(actual, predicted, n) for (actual, predicted), n in ranked]
    return Candidate(content, probabilities, scores, error_of(wrong.to_numpy()), confusions)


def error_on_valid(
    candidate: Candidate, pictures: Pictures, targets: torch.Tensor
) -> dict[str, Any]:
    """Return a graph's error on the valid pictures (N, S, S, 3), whose classes are `targets`."""
    probabilities, _ = run_onnx(candidate.content, pictures)
    return error_of(probabilities.argmax(axis=1) != targets.numpy())


def write_export(content: bytes, model_json: dict, reference: dict, card: str) -> None:
    """Write export/; what was there before goes."""
    shutil.rmtree(EXPORT, ignore_errors=True)
    write_bytes(EXPORT / "model.onnx", content)
    write_json(EXPORT / "model.json", model_json)
    write_json(EXPORT / "reference.json", reference)
    write_bytes(EXPORT / "README.md", card.encode("utf-8"))
    shutil.copyfile(SHIPPED / "predict.py", EXPORT / "predict.py")
    (EXPORT / "pictures").mkdir()
    for file in OPENING:
        shutil.copyfile(PICTURES / file, EXPORT / "pictures" / file)


if __name__ == "__main__":
    run_stage(main)
