"""The learning rate as params.yaml gives it: one number, two, or auto."""

from typing import Literal

from pydantic import ConfigDict, field_validator

from pawprint.params import Params

LR_SPREAD = 100  # ratio of the head's learning rate to the first layers', as in fast.ai


class LrParams(Params):
    """The key `train.lr` alone, for a stage that needs nothing else of the section `train`."""

    model_config = ConfigDict(extra="ignore")

    lr: float | tuple[float, float] | Literal["auto"]

    @field_validator("lr", mode="before")
    @classmethod
    def _lr(cls, value: object) -> object:
        if value == "auto":
            return value
        if isinstance(value, (list, tuple)) and len(value) == 2:
            low, high = map(_number, value)
            if 0 < low <= high <= 10:
                return low, high
        elif 0 < (lr := _number(value)) <= 10:
            return lr
        raise ValueError(
            "should be a number above 0 and at most 10, or auto, or two such numbers [low, high]"
        )


def _number(value: object) -> float:
    """Return a number as a float, and 0 for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return 0.0


def first_and_head(lr: float | tuple[float, float]) -> tuple[float, float]:
    """Return the highest learning rates of the body's first layers and of the head."""
    return lr if isinstance(lr, tuple) else (lr / LR_SPREAD, lr)
