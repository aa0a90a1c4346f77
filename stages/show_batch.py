"""Draw what the model is trained on: a training batch and, below, random views of one picture.

Reads data/split.csv and data/images. Writes metrics/show_batch.png. As fast.ai's `show_batch`, and
with `unique=True`: look at it before training, for labels that are wrong, and for views that hide
what matters.
"""

import pandas as pd
import torch
from PIL import Image

from pawprint.judging.grids import tiles
from pawprint.params import load_params, run_stage
from pawprint.pictures.batches import PRESIZE, load_pictures
from pawprint.tables import read_table, write_bytes
from pawprint.training.augment import augment
from pawprint.training.model import interpolation_of
from pawprint.training.recipe import TrainParams

COLUMNS, ROWS, VIEWS = 8, 3, 15


def main() -> None:
    params = load_params("train", TrainParams)
    generator = torch.Generator().manual_seed(params.seed)
    count = min(COLUMNS * ROWS, params.batch_size)
    batch = draw_batch(read_table("data/split.csv"), count, generator)
    paths, labels = batch["path"].tolist(), batch["label"].tolist()

    # a view of each picture, and several of the first one
    size = round(params.size * PRESIZE)
    loaded = load_pictures(paths, size, params.resize, interpolation_of(params.arch))
    pictures = loaded[torch.arange(len(paths))]
    views = augment(pictures, params.train_size, params.augment, generator)
    first = pictures[:1].expand(VIEWS, -1, -1, -1)
    more = augment(first, params.train_size, params.augment, generator)

    # the grid: the batch fills whole rows, then the first picture and its views
    blank = -len(batch) % COLUMNS
    shown = [*views, *torch.ones(blank, 1, 1, 3), pictures[0].float() / 255, *more]
    numbered = [f"view {i + 1}" for i in range(VIEWS)]
    captions = [*labels, *[""] * blank, f"{labels[0]}, the picture", *numbered]
    write_bytes("metrics/show_batch.png", tiles(map(to_image, shown), captions, COLUMNS, lines=1))


def draw_batch(table: pd.DataFrame, count: int, generator: torch.Generator) -> pd.DataFrame:
    """Return `count` rows of the training split in random order."""
    rows = table[table["split"] == "train"]
    return rows.iloc[torch.randperm(len(rows), generator=generator)[:count].numpy()]


def to_image(view: torch.Tensor) -> Image.Image:
    """Convert a view (S, S, 3), 0 to 1, to an image."""
    return Image.fromarray((view * 255).round().byte().numpy())


if __name__ == "__main__":
    run_stage(main)
