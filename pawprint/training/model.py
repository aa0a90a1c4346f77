"""Making, saving and loading a model: any architecture of timm with a new head."""

import contextlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pawprint.params import StageError
from pawprint.tables import write_bytes
from pawprint.training.recipe import BodyParams, find_architecture
from pawprint.training.stored import BODY, ModelConfig, config_of
from pawprint.training.weights import (
    find_weights,
    load_by_name,
    load_in_order,
    packaged_weights,
    read_weights,
    timm_config,
)


def create_model(params: BodyParams, classes: list[str]) -> tuple[nn.Module, ModelConfig]:
    """Return a model with a new head for `classes`, and its configuration.

    Its body has weights as `params` says; they never start at random without being asked to.
    Raises StageError if there are no weights, or if the architecture cannot be used.
    """
    # the body and its weights
    own = find_weights(Path(params.weights))
    package = packaged_weights(params.arch)
    hub = params.pretrained and own is None and package is None
    try:
        model = build(params.arch, params.size, pretrained=hub, num_classes=len(classes))
    except Exception as error:  # the hub's client, urllib and timm itself raise many kinds
        reason = " ".join(str(error).split())[:200]
        what, remedy = "timm cannot build it", "choose another train.arch or train.size"
        if hub:
            what = "its weights cannot be fetched from the hub"
            remedy = (
                "name a weights file in train.weights, or set train.pretrained: false to start "
                "from random weights"
            )
        raise StageError(
            f"train.arch is {params.arch!r}, and {what} ({reason}); {remedy}"
        ) from None
    if own is not None:
        load_by_name(model, read_weights(own), own)
    elif params.pretrained and package is not None:
        load_in_order(model, read_weights(package))
    refuse_size(model, params.arch, "size", params.size)

    # the head begins with zeros: random values would be noise that stays
    if not ends_in_head(model, params.size):
        raise StageError(
            f"train.arch is {params.arch!r}, which does not end in a linear layer on its features; "
            "choose another"
        )
    Head(model).put(torch.zeros(()), torch.zeros(()))
    data = timm_config(model)
    config = ModelConfig(
        arch=params.arch,
        classes=tuple(classes),
        size=params.size,
        resize=params.resize,
        interpolation=interpolation_of(params.arch),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )
    return model, config


def build(arch: str, size: int, **options: Any) -> nn.Module:
    """Return timm's model, made for pictures of `size` if its input is fixed, as that of a ViT.

    If it can, it takes other sizes too. Some architectures take neither keyword; timm does not say
    which.
    """
    ways: list[dict[str, Any]] = [{}]
    if find_architecture(arch).fixed_input_size:
        ways = [{"img_size": size, "dynamic_img_size": True}, {"img_size": size}, {}]
    for way in ways[:-1]:
        with contextlib.suppress(TypeError):
            return timm.create_model(arch, **way, **options)
    return timm.create_model(arch, **ways[-1], **options)


def refuse_size(model: nn.Module, arch: str, key: str, size: int) -> None:
    """Raise StageError if the model takes no pictures of `size`, which `train.KEY` wants."""
    data = timm_config(model)
    if not data["fixed_input_size"]:
        return
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError):
        raise StageError(
            f"train.{key} is {size}, and {arch} takes no pictures of that size; it was made for "
            f"{data['input_size'][-1]}: set train.size and train.train_size to auto"
        ) from None
    model.train()


def interpolation_of(arch: str) -> str:
    """Return how pictures are scaled for an architecture, as timm says: bicubic or bilinear."""
    return "bicubic" if find_architecture(arch).interpolation == "bicubic" else "bilinear"


def save_model(path: Path | str, model: nn.Module, config: ModelConfig) -> None:
    """Write weights and configuration as one safetensors file.

    The same model gives the same bytes.
    """
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    metadata = {"pawprint": json.dumps(asdict(config), sort_keys=True)}
    write_bytes(path, save(weights, metadata=metadata))


def save_body(path: Path | str, model: nn.Module, config: ModelConfig) -> None:
    """Write all of a model but the linear layers of its head, and where those belong.

    The same model gives the same bytes, whatever the number of its classes.
    """
    layers = describe_head(model)
    left_out = {layer[part] for layer in layers for part in ("weight", "bias")}
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if name not in left_out
    }
    # one key: safetensors writes several in any order
    stored = asdict(config) | {"classes": (), "head": layers}
    write_bytes(path, save(weights, metadata={"pawprint": json.dumps(stored, sort_keys=True)}))


def describe_head(model: nn.Module) -> list[dict[str, Any]]:
    """Return for each linear layer of the head the names of its weight and bias, "" if it has none.

    dimensions: of the weight, 2 or, in a convolution of one pixel, 4.
    """
    names = {module: name for name, module in model.named_modules()}
    return [
        {
            "weight": f"{names[layer]}.weight",
            "bias": "" if layer.bias is None else f"{names[layer]}.bias",
            "dimensions": layer.weight.ndim,
        }
        for layer in Head(model).linear()
    ]


def load_body(classes: list[str]) -> tuple[nn.Module, ModelConfig]:
    """Return the model of models/body.safetensors with a head of zeros for `classes`.

    Raises StageError if the file is missing or is not such a model.
    """
    stored, weights = read_model(BODY)
    config = replace(stored, classes=tuple(classes))
    try:
        model = build(config.arch, config.size, pretrained=False, num_classes=len(classes))
        missing, unknown = model.load_state_dict(weights, strict=False)
        if unknown:
            raise KeyError(unknown[0])
        new = {layer[part] for layer in describe_head(model) for part in ("weight", "bias")}
        if set(missing) - new:
            raise KeyError(missing[0])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError):
        raise not_a_model(BODY) from None
    Head(model).put(torch.zeros(()), torch.zeros(()))
    return model, config


def load_model(path: Path | str) -> tuple[nn.Module, ModelConfig]:
    """Read a model that `save_model` wrote, in eval mode on the CPU. Runs no code from the file.

    Raises StageError if the file is missing or is not such a model.
    """
    config, weights = read_model(path)
    try:
        model = build(config.arch, config.size, pretrained=False, num_classes=len(config.classes))
        model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError):
        raise not_a_model(path) from None
    return model.eval(), config


def read_model(path: Path | str) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the configuration and the weights in a file.

    Raises StageError if the file is missing or has none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            config = config_of(json.loads(file.metadata()["pawprint"]))
            names = list(file.keys())
            return config, {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise StageError(f"{path} is missing: `dvc repro` makes it") from None
    except (SafetensorError, KeyError, TypeError, ValueError):
        raise not_a_model(path) from None


def not_a_model(path: Path | str) -> StageError:
    """Return the error about a file that holds no model of pawprint's."""
    return StageError(f"{path} is not a model that pawprint saved: `dvc repro` makes it again")


def body(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the features (N, F) that the head sees for normalised inputs (N, 3, H, W)."""
    timm_model: Any = model  # its methods are timm's
    return timm_model.forward_head(timm_model.forward_features(inputs), pre_logits=True)


class Head(nn.Module):
    """The last layer of a model, from features (N, F) to logits (N, classes). It shares parameters.

    It may be a convolution of one pixel, have a batch-norm before it, or be two layers whose mean
    is the answer.
    """

    in_features: int
    out_features: int

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        timm_model: Any = model
        found = timm_model.get_classifier()
        self.layers = nn.ModuleList(found if isinstance(found, (tuple, list)) else [found])
        self.out_features, self.in_features = self.linear()[0].weight.shape[:2]

    def forward(self, features: Tensor) -> Tensor:
        pixel = features[:, :, None, None]
        answers = [
            layer(pixel if isinstance(layer, nn.Conv2d) else features).flatten(1)
            for layer in self.layers
        ]
        return answers[0] if len(answers) == 1 else torch.stack(answers).mean(dim=0)

    def linear(self) -> list[nn.Linear | nn.Conv2d]:
        """Return the layers with weights, (classes, F), of convolutions (classes, F, 1, 1)."""
        return [module for module in self.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]

    @torch.no_grad()
    def put(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Set the weights, and the bias if it is given.

        weight: (classes, F), bias: (classes,); or one number for all.
        """
        for layer in self.linear():
            is_conv = isinstance(layer, nn.Conv2d) and weight.ndim > 0
            layer.weight.copy_(weight.view(*weight.shape, 1, 1) if is_conv else weight)
            if bias is not None and layer.bias is not None:
                layer.bias.copy_(bias)


@torch.no_grad()
def ends_in_head(model: nn.Module, size: int) -> bool:
    """Return whether `Head` gives the model's own answers from its features.

    It is tried with random weights, on one random picture of `size`.
    """
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(1, 3, size, size, generator=generator)
    model.eval()
    try:
        head = Head(model)
        for layer in head.linear():
            layer.weight.normal_(generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
        expected, found = model(probe), head(body(model, probe))
    except (AttributeError, IndexError, RuntimeError, TypeError):  # not built as others of timm
        return False
    model.train()
    # a head with hidden layers has weights of several shapes
    shapes = {layer.weight.shape[:2] for layer in head.linear()}
    if len(shapes) != 1 or found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= 1e-3 * expected.abs().max())


def normalise(pictures: Tensor, config: ModelConfig) -> Tensor:
    """Return pictures as the model takes them, float (N, 3, H, W).

    pictures: (N, H, W, 3), uint8 0 to 255 or float 0 to 1.
    """
    # turned before it is computed with: onnxruntime takes ten times as long for colours innermost
    turned = pictures.permute(0, 3, 1, 2)
    values = turned.float() / 255 if turned.dtype == torch.uint8 else turned
    mean, std = (
        torch.tensor(value, device=pictures.device)[:, None, None]
        for value in (config.mean, config.std)
    )
    return (values - mean) / std
