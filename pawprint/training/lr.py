"""The learning rate as params.yaml gives it: one number, two, or auto."""

from typing import Literal

from pydantic import ConfigDict, field_validator

from pawprint.params import Params

LR_SPREAD = 100  # ratio of the head's rate to the first layers', as fast.ai's


class LrParams(Params):
    """The key `train.lr` alone, for a stage that needs nothing else of the section `train`."""

    model_config = ConfigDict(extra="ignore")

    lr: float | tuple[float, float] | Literal["auto"]

    @field_validator("lr", mode="before")
    @classmethod
    def _lr(cls, value: object) -> object:
        if value == "auto":
            return value
        pair = isinstance(value, (list, tuple)) and len(value) == 2
        lrs = [_number(each) for each in (value if pair else [value])]
        if not all(0 < lr <= 10 for lr in lrs) or lrs[0] > lrs[-1]:
            raise ValueError(
                "should be a number above 0 and at most 10, or auto, or two such numbers [low, high]"
            )
        return tuple(lrs) if pair else lrs[0]


def _number(value: object) -> float:
    """Return a number as a float, and 0 for anything else."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else 0.0


def first_and_head(lr: float | tuple[float, float]) -> tuple[float, float]:
    """Return the highest rate of the body's first layers, and that of the head."""
    return lr if isinstance(lr, tuple) else (lr / LR_SPREAD, lr)
