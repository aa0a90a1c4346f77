"""What a model must beat: pixel similarity, and a linear head on frozen features.

Pixel similarity is the baseline of fast.ai's book (Howard and Gugger, "Deep Learning for Coders",
chapter 4). Each class has a mean training picture. A new picture belongs to the class whose mean
is nearest, in the mean absolute (L1) or root mean squared (L2) difference of pixels.

The linear head is logistic regression on the features that the pretrained body gives. Nothing of
the body is trained, so the head shows what fine-tuning the body buys.
"""

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from pawprint.params import Params
from pawprint.pictures.opening import AS_STORED, open_picture


class BaselineParams(Params):
    """The section `baseline` of params.yaml."""

    size: int = Field(ge=4, le=256)


def pixel_answers(train: pd.DataFrame, paths: list[str], size: int) -> dict[str, list[str]]:
    """Return the class of the nearest mean picture for each of `paths`, by L1 and by L2.

    train: columns path and label; size: side in pixels at which pictures are compared.
    """
    classes = sorted(train["label"].unique())
    by_class = [train.loc[train["label"] == name, "path"].tolist() for name in classes]
    means = np.stack([mean_picture(each, size) for each in by_class])
    answers: dict[str, list[str]] = {"pixel_l1": [], "pixel_l2": []}
    for path in paths:
        l1, l2 = distances(load_squeezed(path, size), means)
        answers["pixel_l1"].append(classes[l1.argmin()])
        answers["pixel_l2"].append(classes[l2.argmin()])
    return answers


def load_squeezed(path: str, size: int) -> np.ndarray:
    """Load a picture squeezed to (size, size, 3), values 0 to 1."""
    small = open_picture(path, AS_STORED).resize((size, size), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255


def mean_picture(paths: list[str], size: int) -> np.ndarray:
    """Return the mean of the pictures, (size, size, 3), read one at a time."""
    total = np.zeros((size, size, 3))
    for path in paths:
        total += load_squeezed(path, size)
    return total / len(paths)


def distances(image: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the L1 and L2 distance, (classes,) each, of (S, S, 3) to means (classes, S, S, 3)."""
    apart = means - image
    return np.abs(apart).mean(axis=(1, 2, 3)), np.sqrt(np.square(apart).mean(axis=(1, 2, 3)))


def fit_linear_head(seen: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight (classes, F) and bias (classes,) of a logistic regression.

    It is fitted to standardised features, and written for plain ones. seen: features (N, F);
    targets: class indexes (N,); each class occurs.
    """
    # here: evaluate, which asks for pixels alone, would wait for it
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    regression = LogisticRegression(C=0.01, max_iter=1000)
    regression.fit(scaler.fit_transform(seen.astype(np.float64)), targets)
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # for two classes, scikit-learn gives the second's weights alone
        weight = np.concatenate([np.zeros_like(weight), weight])
        bias = np.concatenate([np.zeros_like(bias), bias])
    # the same head for features that are not standardised
    weight = weight / scaler.scale_
    return weight, bias - weight @ scaler.mean_
