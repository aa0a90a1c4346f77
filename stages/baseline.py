"""What a model must beat: the most frequent class, and pixel similarity.

Reads data/split.csv and data/images. Writes metrics/baseline.json: error rates on the valid split.

Pixel similarity is the baseline of fast.ai's book (Howard and Gugger, "Deep Learning for Coders", chapter 4): the mean
of a class's training pictures, and for each new picture the class whose mean is nearest in the mean absolute (L1) or
root mean squared (L2) difference of pixels.
"""

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from stages.params import Params, load_params, run_stage
from stages.tables import read_table, write_json


class BaselineParams(Params):
    """The section `baseline` of params.yaml."""

    size: int = Field(ge=4, le=256)


def main() -> None:
    params = load_params("baseline", BaselineParams)
    table = read_table("data/split.csv")
    train, valid = (table[table["split"] == split] for split in ("train", "valid"))
    classes = sorted(table["label"].unique())
    means = np.stack([mean_picture(train[train["label"] == name], params.size) for name in classes])
    target = np.array([classes.index(label) for label in valid["label"]])
    majority = classes.index(train["label"].mode()[0])
    distance = [distances(load(path, params.size), means) for path in valid["path"]]
    l1, l2 = np.array(distance).transpose(1, 0, 2)
    write_json(
        "metrics/baseline.json",
        {
            "valid": {
                "majority_error": np.mean(target != majority),
                "pixel_l1_error": np.mean(target != l1.argmin(axis=1)),
                "pixel_l2_error": np.mean(target != l2.argmin(axis=1)),
            }
        },
    )


def load(path: str, size: int) -> np.ndarray:
    """A picture squeezed to (size, size, 3), values 0 to 1."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BOX), dtype=np.float64) / 255


def mean_picture(rows: pd.DataFrame, size: int) -> np.ndarray:
    """The mean of the pictures, (size, size, 3), read one at a time."""
    total = np.zeros((size, size, 3))
    for path in rows["path"]:
        total += load(path, size)
    return total / len(rows)


def distances(image: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """L1 and L2 distance, (classes,) each, of an (S, S, 3) image to (classes, S, S, 3) means."""
    difference = means - image
    return np.abs(difference).mean(axis=(1, 2, 3)), np.sqrt((difference**2).mean(axis=(1, 2, 3)))


if __name__ == "__main__":
    run_stage(main)
