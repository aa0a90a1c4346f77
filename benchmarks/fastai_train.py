"""fastai's fine_tune(4) in the current project folder, as its book has it; a part of `train`.

    python -m benchmarks.fastai_train SEED WEIGHTS ANSWER

It runs in a Python that has fastai and timm. WEIGHTS: a safetensors file for timm; ANSWER: the
JSON file of figures to write.
"""

import json
import sys
from pathlib import Path

import pandas as pd
import torch
from fastai.vision.all import (
    ImageDataLoaders,
    RandomResizedCrop,
    aug_transforms,
    error_rate,
    set_seed,
    vision_learner,
)

from benchmarks.clock import Clock, peak_memory


def main(seed: int, weights: str, answer: Path) -> None:
    """Train on the train split, and count the errors on valid and test."""
    set_seed(seed, reproducible=True)
    table = pd.read_csv("data/split.csv")
    rows = table[table["split"] != "test"].assign(is_valid=table["split"] == "valid")
    data = ImageDataLoaders.from_df(
        rows,
        ".",
        fn_col="path",
        label_col="label",
        valid_col="is_valid",
        seed=seed,
        item_tfms=RandomResizedCrop(224, min_scale=0.5),
        batch_tfms=aug_transforms(),
    )
    learner = vision_learner(
        data, "tf_efficientnet_lite0", metrics=error_rate, pretrained_cfg_overlay={"file": weights}
    )
    clock = Clock()
    held_out = table[table["split"].isin(["valid", "test"])]
    with learner.no_bar(), learner.no_logging():
        clock.timed("fit", learner.fine_tune)(4)
        loader = data.test_dl([Path(path) for path in held_out["path"]])
        answers, _ = learner.get_preds(dl=loader)
        targets = torch.tensor([data.vocab.o2i[label] for label in held_out["label"]])
        wrong = int((answers.argmax(dim=1) != targets).sum())
    figures = {
        **clock.took,
        "decode": 0.0,
        "error": wrong / len(held_out),
        "pictures": len(held_out),
        "memory": peak_memory(),
    }
    answer.write_text(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
