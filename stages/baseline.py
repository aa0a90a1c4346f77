"""What a model must beat: the most frequent class, pixel similarity, and a linear head on frozen features.

Reads data/split.csv and data/images. Writes metrics/baseline.json: error rates on the valid split.

Pixel similarity is the baseline of fast.ai's book (Howard and Gugger, "Deep Learning for Coders", chapter 4): the mean
of a class's training pictures, and for each new picture the class whose mean is nearest in the mean absolute (L1) or
root mean squared (L2) difference of pixels.

The linear head (logistic regression on what the pretrained body makes of a picture, nothing of which is trained) shows
what fine-tuning the body buys. That part alone needs torch, and imports it when its turn comes.
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
                "linear_error": np.mean(target != linear_answers(train, valid, classes)),
            }
        },
    )


def linear_answers(train: pd.DataFrame, valid: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """The class index (valid pictures,) that a linear head on frozen features gives."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from stages.vision.batches import load_pictures
    from stages.vision.device import ComputeParams, start
    from stages.vision.model import create_model
    from stages.vision.predict import features
    from stages.vision.recipe import TrainParams

    params = load_params("train", TrainParams)
    device = start(load_params("compute", ComputeParams), params.seed)
    model, config = create_model(params, classes)
    paths = [*train["path"], *valid["path"]]
    pictures = load_pictures(paths, config.size, config.resize, config.interpolation)
    seen = features(model, pictures, config, device).double().numpy()
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    linear.fit(seen[: len(train)], train["label"].map(classes.index))
    return linear.predict(seen[len(train) :])


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
