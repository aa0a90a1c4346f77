"""The section `train` of params.yaml: the one description of how a model is made, for lr_find, train and retrain."""

from typing import Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from pawprint.params import Params
from pawprint.training.lr import LrParams

TRAIN_SIZE = 11 / 14  # of the size that a model is asked about, when it is trained; 176 of 224


class AugmentParams(Params):
    """Random changes to every training picture, drawn anew each epoch. Zero, or min_scale 1, switches one off."""

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


class TrainParams(LrParams):
    """The section `train` of params.yaml. lr: one number, the lowest and the highest, or auto.

    size and train_size may be auto in the file; here they are numbers.
    """

    model_config = ConfigDict(extra="forbid")

    arch: str
    pretrained: bool
    weights: str
    seed: int
    size: int = Field(ge=32, le=1024)
    train_size: int = Field(ge=32, le=1024)
    resize: Literal["squish", "crop", "pad"]
    batch_size: int = Field(ge=2, le=4096)
    method: Literal["fine_tune", "fit_one_cycle", "sgdr"]
    freeze_epochs: int = Field(ge=0)
    epochs: int = Field(ge=0)
    cycle_len: int = Field(ge=1)
    cycle_mult: int = Field(ge=1)
    weight_decay: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    mixup: float = Field(ge=0, le=10)
    class_weights: Literal["none", "balanced"]
    ema: float = Field(ge=0, lt=1)
    precision: Literal["fp32", "bf16", "fp16"]
    augment: AugmentParams

    @field_validator("size", "train_size", mode="before")
    @classmethod
    def _size(cls, value: object, info: ValidationInfo) -> object:
        if value != "auto":
            if isinstance(value, str):
                raise ValueError(
                    "should be a number of pixels, or auto for what the architecture was made for"
                )
            return value
        import timm

        made_for = (
            timm.get_pretrained_cfg(info.data["arch"])
            if "arch" in info.data
            else timm.models.PretrainedCfg()
        )
        size = info.data.get("size", made_for.input_size[-1])
        smaller = info.field_name == "train_size" and not made_for.fixed_input_size
        return max(32, round(size * TRAIN_SIZE / 16) * 16) if smaller else size

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

    @field_validator("arch")
    @classmethod
    def _arch(cls, value: str) -> str:
        import timm  # here, because importing it takes seconds that other sections need not pay

        if not timm.is_model(value):
            near = timm.list_models(f"*{value.split('.')[0]}*")[:5] or _similar(
                value, timm.list_models()
            )
            raise ValueError(f"should be a name that timm knows, such as {', '.join(near)}")
        return value


def cycle_ends(epochs: int, cycle_len: int, cycle_mult: int) -> list[int]:
    """After how many epochs each cycle ends: the first takes `cycle_len`, each next `cycle_mult` times the one before.

    The last end is `epochs` where whole cycles fill them, and beyond it where not. (epochs=7, 1, 2) gives [1, 3, 7].
    """
    ends = [cycle_len]
    while ends[-1] < epochs:
        cycle_len *= cycle_mult
        ends.append(ends[-1] + cycle_len)
    return ends


def _similar(name: str, known: list[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, known, n=5, cutoff=0.4) or [
        "tf_efficientnet_lite0",
        "resnet18",
    ]
