"""The keys of the section `compute` of params.yaml that every engine knows."""

from typing import Literal

from pydantic import ConfigDict, Field, field_validator

from pawprint.params import Params


class EngineParams(Params):
    """The keys of the section `compute` of params.yaml that say where the work is done.

    They change no result, so no stage of dvc.yaml depends on them.
    """

    model_config = ConfigDict(extra="ignore")

    engine: Literal["local", "ray"] = "local"
    address: str = Field(default="auto", min_length=1)
    workers: Literal["auto"] | int = "auto"
    gpus_per_worker: Literal["auto"] | float = "auto"

    @field_validator("workers", mode="before")
    @classmethod
    def _workers(cls, value: object) -> object:
        if value == "auto" or (type(value) is int and value >= 1):
            return value
        raise ValueError("should be auto, or a whole number from 1 on")

    @field_validator("gpus_per_worker", mode="before")
    @classmethod
    def _gpus(cls, value: object) -> object:
        if value == "auto":
            return value
        if type(value) in (int, float) and value >= 0:  # type: ignore[operator]
            return float(value)  # type: ignore[arg-type]
        raise ValueError("should be auto, or a number from 0 on")

    def count(self, most: int) -> int:
        """Return the number of workers: that of `workers`, and never more than `most`."""
        return most if self.workers == "auto" else min(self.workers, most)
