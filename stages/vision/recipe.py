"""The section `train` of params.yaml: the one description of how a model is made, for lr_find, train and retrain."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from stages.params import Params


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


class TrainParams(Params):
    """The section `train` of params.yaml."""

    arch: str
    pretrained: bool
    weights: str
    seed: int
    size: int = Field(ge=32, le=1024)
    train_size: int = Field(ge=32, le=1024)
    resize: Literal["squish", "crop", "pad"]
    batch_size: int = Field(ge=2, le=4096)
    freeze_epochs: int = Field(ge=0)
    epochs: int = Field(ge=0)
    lr: float | Literal["auto"]
    lr_mult: float = Field(ge=1)
    weight_decay: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    augment: AugmentParams

    @field_validator("lr", mode="before")
    @classmethod
    def _lr(cls, value: object) -> object:
        if value == "auto":
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 10:
            raise ValueError("should be a number above 0 and at most 10, or auto")
        return float(value)

    @field_validator("arch")
    @classmethod
    def _arch(cls, value: str) -> str:
        import timm  # here, because importing it takes seconds that other sections need not pay

        if not timm.is_model(value):
            near = timm.list_models(f"*{value.split('.')[0]}*")[:5] or _similar(value, timm.list_models())
            raise ValueError(f"should be a name that timm knows, such as {', '.join(near)}")
        return value


def _similar(name: str, known: list[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, known, n=5, cutoff=0.4) or ["tf_efficientnet_lite0", "resnet18"]
