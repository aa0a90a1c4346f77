"""What is kept of a model in files, for stages that need no network: they import neither torch nor
timm.

models/body.safetensors is the pretrained model without its head, as every training starts from it.
A head for its features makes a whole model of it.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pawprint.params import StageError
from pawprint.tables import write_bytes

BODY = Path("models/body.safetensors")


@dataclass(frozen=True)
class ModelConfig:
    """What it takes to use a model: stored as JSON in the header of its safetensors file.

    classes: names in the order of the outputs. size: side in pixels of the square input. resize:
    how a picture becomes square. interpolation: `bicubic` or `bilinear`. mean, std: of the RGB
    channels, for values 0 to 1.
    """

    arch: str
    classes: tuple[str, ...]
    size: int
    resize: str
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def config_of(stored: dict[str, Any]) -> ModelConfig:
    """Return the configuration that a header holds. Raises KeyError or TypeError if it is none.

    A header may also say where a linear head belongs.
    """
    tuples = {key: tuple(stored[key]) for key in ("classes", "mean", "std")}
    return ModelConfig(**{key: stored[key] for key in stored if key != "head"} | tuples)


def hash_body() -> str:
    """Return the sha256 of models/body.safetensors. Raises StageError if it is missing."""
    try:
        return hashlib.sha256(BODY.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise StageError(f"{BODY} is missing: `dvc repro features` makes it") from None


def write_linear(path: Path, classes: list[str], weight: np.ndarray, bias: np.ndarray) -> None:
    """Write the body with a linear head as a model that `load_model` reads.

    weight: (classes, F); bias: (classes,). Raises StageError if the body is missing or damaged.
    """
    stored, tensors = read_stored(BODY)
    for layer in stored["head"]:
        shape = (*weight.shape, 1, 1)[: layer["dimensions"]]
        tensors[layer["weight"]] = weight.astype(np.float32).reshape(shape)
        if layer["bias"]:
            tensors[layer["bias"]] = bias.astype(np.float32)
    text = json.dumps(stored | {"classes": classes}, sort_keys=True)
    write_bytes(path, save(tensors, metadata={"pawprint": text}))


def read_linear(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the classes, the weight (classes, F) and the bias (classes,) of `write_linear`.

    Raises StageError if the file is missing or damaged.
    """
    stored, tensors = read_stored(path)
    layer = stored["head"][0]
    weight = tensors[layer["weight"]]
    bias = tensors.get(layer["bias"], np.zeros(len(weight), dtype=np.float32))
    return stored["classes"], weight.reshape(len(weight), -1), bias


def read_stored(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the tensors of a file that says where a linear head belongs.

    Raises StageError if the file is missing or is not such a file.
    """
    try:
        with safe_open(path, framework="np") as file:
            stored = json.loads(file.metadata()["pawprint"])
            config_of(stored)
            names = [layer["weight"] for layer in stored["head"]]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if not names:
                raise KeyError("head")
            return stored, tensors
    except FileNotFoundError:
        raise StageError(f"{path} is missing: `dvc repro` makes it") from None
    except (SafetensorError, KeyError, TypeError, ValueError):
        raise StageError(f"{path} is damaged: `dvc repro` makes it again") from None
