"""Draw held-out pictures beside their actual and their predicted classes.

Reads data/raw and data/split.csv, which train.py has checked, and its data/answers/NAME.png.
Writes plots/masks.png: a row for each of ROWS pictures, from the most to the least accurate. Void
is black.
"""

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from pawprint.params import load_yaml, run_stage
from pawprint.tables import png_of, read_table, write_bytes

RAW = Path("data/raw")
ROWS = 6

Masks = NDArray[np.uint8]  # the class of each pixel, (N, H, W)


def main() -> None:
    void_name = load_yaml(Path("params.yaml"))["fit"]["void"]
    lines = (RAW / "codes.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    codes = [line.strip() for line in lines if line.strip()]
    void = codes.index(void_name) if void_name in codes else -1
    split = read_table("data/split.csv")
    names = split["name"][split["split"] == "valid"].tolist()

    # masks of the size at which the model has seen the pictures
    answers = [Image.open(f"data/answers/{name}.png") for name in names]
    size = answers[0].size
    predicted = np.stack([np.asarray(answer) for answer in answers])
    masks = [Image.open(RAW / f"labels/{name}_P.png") for name in names]
    actual = np.stack([np.asarray(each.resize(size, Image.Resampling.NEAREST)) for each in masks])

    # from the most to the least accurate
    counts = actual != void
    right = (counts & (predicted == actual)).sum(axis=(1, 2))
    accuracy = right / np.maximum(counts.sum(axis=(1, 2)), 1)
    order = np.argsort(-accuracy, kind="stable")
    shown = order[np.linspace(0, len(order) - 1, min(ROWS, len(order))).round().astype(int)]
    pictures = [Image.open(RAW / f"images/{names[i]}.png").convert("RGB") for i in shown]
    pictures = [picture.resize(size, Image.Resampling.BILINEAR) for picture in pictures]
    write_bytes("plots/masks.png", draw(pictures, actual[shown], predicted[shown], codes, void))


def draw(
    pictures: list[Image.Image], actual: Masks, predicted: Masks, codes: list[str], void: int
) -> bytes:
    """Return a PNG: in each row a picture, its actual classes and the predicted ones."""
    palette = np.array([colorsys.hsv_to_rgb(0.618 * i % 1, 0.75, 0.95) for i in range(len(codes))])
    palette[[i for i in range(len(codes)) if i == void]] = 0
    predicted = np.where(actual == void, actual, predicted)
    columns: dict[str, Any] = {"picture": pictures}
    columns |= {"actual": palette[actual], "predicted": palette[predicted]}
    figure = Figure(figsize=(9, 2.2 * len(pictures) + 1), layout="constrained")
    for place, axes in enumerate(figure.subplots(len(pictures), 3, squeeze=False).flat):
        name = list(columns)[place % 3]
        axes.imshow(columns[name][place // 3], interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(name if place < 3 else "")
    seen = np.union1d(actual, predicted)
    names = [Patch(color=palette[i], label=codes[i]) for i in seen]
    figure.legend(handles=names, loc="outside lower center", ncols=6)
    return png_of(figure)


if __name__ == "__main__":
    run_stage(main)
