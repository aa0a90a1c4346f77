"""Pixel similarity: the class whose mean training picture is nearest, for baseline and evaluate."""

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from stages.params import Params


class BaselineParams(Params):
    """The section `baseline` of params.yaml."""

    size: int = Field(ge=4, le=256)


def pixel_answers(train: pd.DataFrame, paths: list[str], size: int) -> dict[str, list[str]]:
    """The class that the mean pictures of `train` (columns path, label) give each of `paths`, by L1 and by L2."""
    classes = sorted(train["label"].unique())
    means = np.stack([mean_picture(train.loc[train["label"] == name, "path"].tolist(), size) for name in classes])
    nearest = np.array([[each.argmin() for each in distances(load(path, size), means)] for path in paths])
    return {f"pixel_l{norm + 1}": [classes[i] for i in nearest[:, norm]] for norm in (0, 1)}


def load(path: str, size: int) -> np.ndarray:
    """A picture squeezed to (size, size, 3), values 0 to 1."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BOX), dtype=np.float64) / 255


def mean_picture(paths: list[str], size: int) -> np.ndarray:
    """The mean of the pictures, (size, size, 3), read one at a time."""
    total = np.zeros((size, size, 3))
    for path in paths:
        total += load(path, size)
    return total / len(paths)


def distances(image: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """L1 and L2 distance, (classes,) each, of an (S, S, 3) image to (classes, S, S, 3) means."""
    difference = means - image
    return np.abs(difference).mean(axis=(1, 2, 3)), np.sqrt((difference**2).mean(axis=(1, 2, 3)))
