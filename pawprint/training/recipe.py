"""The section `train` of params.yaml: the one description of how a model is made.

train and retrain read all of it, other stages the keys that they need. timm is imported in
functions, because that takes seconds, which stages without a network need not spend.
"""

import difflib
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from pawprint.params import Params
from pawprint.training.lr import LrParams

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

TRAIN_SIZE = 9 / 14  # train_size: auto, as a share of size; 144 of 224


class AugmentParams(Params):
    """Random changes to every training picture, drawn again in each epoch.

    0 switches one off; 1 does so for zoom and min_scale.
    """

    mult: float = Field(ge=0, le=4)
    min_scale: float = Field(gt=0, le=1)
    flip: float = Field(ge=0, le=1)
    rotate: float = Field(ge=0, le=180)
    zoom: float = Field(ge=1, le=4)
    warp: float = Field(ge=0, lt=1)
    lighting: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _possible(self) -> "AugmentParams":
        if self.mult * max(self.warp, self.lighting) >= 1:
            raise ValueError("should keep warp and lighting below 1 when multiplied by mult")
        return self


class SeedParams(Params):
    """The key `train.seed` alone."""

    model_config = ConfigDict(extra="ignore")

    seed: int = Field(ge=0, lt=2**32)  # what all generators of random numbers take


class HeadParams(SeedParams):
    """What fitting a head alone depends on, beside the learning rate."""

    batch_size: int = Field(ge=2, le=4096)
    weight_decay: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    class_weights: Literal["none", "balanced"]


class BodyParams(Params):
    """What the body and its features depend on.

    size may be auto in the file; here it is a number of pixels.
    """

    model_config = ConfigDict(extra="ignore")

    arch: str
    pretrained: bool
    weights: str
    size: int = Field(ge=32, le=1024)
    resize: Literal["squish", "crop", "pad"]

    @field_validator("size", mode="before")
    @classmethod
    def _size(cls, value: object, info: ValidationInfo) -> object:
        return pixels(value, info)

    @field_validator("arch")
    @classmethod
    def _arch(cls, value: str) -> str:
        find_architecture(value)
        return value

    @field_validator("weights")
    @classmethod
    def _weights(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("should be a weights file or a folder for one, such as data/weights")
        return value


class TrainParams(BodyParams, HeadParams, LrParams):
    """The section `train` of params.yaml.

    train_size may be auto in the file, too; here it is a number of pixels.
    """

    model_config = ConfigDict(extra="forbid")

    train_size: int = Field(ge=32, le=1024)
    method: Literal["fine_tune", "fit_one_cycle", "sgdr"]
    freeze_epochs: int = Field(ge=0)
    freeze_layers: float = Field(ge=0, le=1)
    epochs: int = Field(ge=0)
    blend: float | Literal["auto"]
    cycle_len: int = Field(ge=1)
    cycle_mult: int = Field(ge=1)
    mixup: float = Field(ge=0, le=10)
    ema: float = Field(ge=0, lt=1)
    precision: Literal["fp32", "bf16", "fp16"]
    augment: AugmentParams

    @field_validator("train_size", mode="before")
    @classmethod
    def _train_size(cls, value: object, info: ValidationInfo) -> object:
        return pixels(value, info)

    @field_validator("blend", mode="before")
    @classmethod
    def _blend(cls, value: object) -> object:
        if value == "auto":
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
            return float(value)
        raise ValueError("should be a number from 0 to 1, or auto")

    @field_validator("cycle_mult")
    @classmethod
    def _whole_cycles(cls, value: int, info: ValidationInfo) -> int:
        known = info.data
        if known.get("method") == "sgdr" and {"epochs", "cycle_len"} <= known.keys():
            epochs, ends = known["epochs"], cycle_ends(known["epochs"], known["cycle_len"], value)
            if epochs and epochs != ends[-1]:
                near = " or ".join(map(str, ends[-2:]))
                raise ValueError(
                    f"should make whole cycles of the train.epochs, {epochs}; it would of {near}"
                )
        return value


def pixels(value: object, info: ValidationInfo) -> object:
    """Return `train.size` or `train.train_size`, with auto replaced by a number of pixels."""
    if value != "auto":
        if isinstance(value, str):
            raise ValueError(
                "should be a number of pixels, or auto for what the architecture was made for"
            )
        return value
    if "arch" not in info.data:
        return 32  # the error is about arch
    made_for = find_architecture(info.data["arch"])
    size = info.data.get("size", made_for.input_size[-1])
    smaller = info.field_name == "train_size" and not made_for.fixed_input_size
    return max(32, round(size * TRAIN_SIZE / 16) * 16) if smaller else size


def find_architecture(arch: str) -> "PretrainedCfg":
    """Return timm's configuration of an architecture: its input size, interpolation and others.

    Raises ValueError that suggests names if timm does not know this one.
    """
    import timm

    name, dot, tag = arch.partition(".")  # the tag says which weights
    if timm.is_model(name) and bool(dot) == bool(tag):
        try:
            found = timm.get_pretrained_cfg(arch)
        except RuntimeError:  # a tag that timm does not know
            found = None
        if found is not None:
            return found
    near = [name, *timm.list_models(f"{name}.*", pretrained=True)]
    if not timm.is_model(name):
        name = name.lower().strip()
        near = timm.list_models(f"*{name}*") if name else []
        near = near or difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.4)
    names = ", ".join(near[:5] or ["tf_efficientnet_lite0", "resnet18"])
    raise ValueError(f"should be a name that timm knows, such as {names}")


def cycle_ends(epochs: int, cycle_len: int, cycle_mult: int) -> list[int]:
    """Return after how many epochs each cycle ends.

    The first takes `cycle_len`, each next `cycle_mult` times the one before. The last end is
    `epochs` if whole cycles fill them, and more if not. (7, 1, 2) gives [1, 3, 7].
    """
    ends = [cycle_len]
    while ends[-1] < epochs:
        cycle_len *= cycle_mult
        ends.append(ends[-1] + cycle_len)
    return ends
