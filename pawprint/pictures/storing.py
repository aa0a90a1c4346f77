"""How verify stores pictures, and the ranges of deep pictures, which are one for the data set."""

from collections.abc import Iterable
from typing import Annotated, Literal

from PIL import Image
from pydantic import BeforeValidator, Field, model_validator

from pawprint.params import Params
from pawprint.pictures.opening import (
    Preparation,
    Range,
    depth_kind,
    extrema_of,
    range_of,
    tagged_range,
)


class VerifyParams(Params):
    """The section `verify` of params.yaml."""

    resize: Literal["shrink", "crop", "pad", "squish"] = "shrink"
    max_size: int = Field(ge=32, le=4096)
    min_size: int = Field(ge=1, le=1024)
    quality: int = Field(ge=50, le=100)
    max_pixels: int = Field(ge=1_000_000)
    range: Literal["auto"] | Annotated[tuple[float, float], BeforeValidator(tuple)] = "auto"

    @model_validator(mode="after")
    def _upwards(self) -> "VerifyParams":
        if self.range != "auto" and self.range[0] >= self.range[1]:
            raise ValueError("should have a range of [lowest, highest], the lowest value first")
        return self

    def preparation(self, ranges: dict[str, Range]) -> Preparation:
        """Return how pictures are scaled, with the ranges of the deep ones by kind."""
        return Preparation(self.resize, self.max_size, self.min_size, self.max_pixels, ranges)


Deep = tuple[str, float, float]  # kind, and the lowest and highest value


def measure_deep(image: Image.Image) -> Deep | None:
    """Return kind and extrema of an opened picture of more than 8 bits; None for any other.

    A picture whose own tags name its range is not measured either.
    """
    kind = depth_kind(image)
    if not kind or tagged_range(image):
        return None
    image.load()
    return kind, *extrema_of(image)


def ranges_of(measured: Iterable[Deep]) -> dict[str, Range]:
    """Return the range of each kind of deep picture, from the extrema of all pictures of a set."""
    extrema: dict[str, Range] = {}
    for kind, low, high in measured:
        lowest, highest = extrema.get(kind, (low, high))
        extrema[kind] = min(lowest, low), max(highest, high)
    return {kind: range_of(kind, *extrema[kind]) for kind in sorted(extrema)}
