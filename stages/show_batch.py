"""Draw what the model is trained on: a training batch with its labels and, below, one picture's random views.

Reads data/split.csv and data/images. Writes metrics/show_batch.png. As fast.ai's `show_batch`, and with `unique=True`:
look at it before training, for labels that say something else, and for views that hide what matters.
"""

import pandas as pd
import torch
from PIL import Image

from stages.params import load_params, run_stage
from stages.tables import read_table, write_bytes
from stages.vision.augment import augment
from stages.vision.batches import PRESIZE, load_pictures
from stages.vision.grids import tiles
from stages.vision.model import interpolation_of
from stages.vision.recipe import TrainParams

COLUMNS, ROWS, VIEWS = 8, 3, 15


def main() -> None:
    params = load_params("train", TrainParams)
    generator = torch.Generator().manual_seed(params.seed)
    batch = draw_batch(read_table("data/split.csv"), min(COLUMNS * ROWS, params.batch_size), generator)
    size = round(params.size * PRESIZE)
    pictures = load_pictures(batch["path"].tolist(), size, params.resize, interpolation_of(params.arch))
    views = augment(pictures, params.train_size, params.augment, generator)
    more = augment(pictures[:1].expand(VIEWS, -1, -1, -1), params.train_size, params.augment, generator)
    labels, blank = batch["label"].tolist(), -len(batch) % COLUMNS
    shown = [*views, *torch.ones(blank, 1, 1, 3), pictures[0].float() / 255, *more]
    captions = [*labels, *[""] * blank, f"{labels[0]}, the picture", *[f"view {i + 1}" for i in range(VIEWS)]]
    write_bytes("metrics/show_batch.png", tiles(map(to_image, shown), captions, COLUMNS, lines=1))


def draw_batch(table: pd.DataFrame, count: int, generator: torch.Generator) -> pd.DataFrame:
    """So many rows of the training split in random order."""
    rows = table[table["split"] == "train"]
    return rows.iloc[torch.randperm(len(rows), generator=generator)[:count].numpy()]


def to_image(view: torch.Tensor) -> Image.Image:
    """A view (S, S, 3), 0 to 1, as an image."""
    return Image.fromarray((view * 255).round().byte().numpy())


if __name__ == "__main__":
    run_stage(main)
