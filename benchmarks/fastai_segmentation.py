"""fastai's unet_learner in the lesson's folder, as its book has it; a part of `segmentation`.

    python -m benchmarks.fastai_segmentation SEED WEIGHTS

It runs in a Python that has fastai and timm. WEIGHTS: a safetensors file for timm. Reads data/raw
and data/split.csv, writes answers.npy, the class of every pixel of the valid split, never void.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from fastai.vision.all import Normalize, SegmentationDataLoaders, set_seed, unet_learner
from torch import nn

ARCH, RAW = "tf_efficientnet_lite0", Path("data/raw")


def main(seed: int, weights: str) -> None:
    """Train on the train split, and answer for valid."""
    set_seed(seed, reproducible=True)
    torch.use_deterministic_algorithms(False)
    table = pd.read_csv("data/split.csv", dtype=str)
    valid = [f"{name}.png" for name in table["name"][table["split"] == "valid"]]
    codes = (RAW / "codes.txt").read_text().split()
    whole: Any = timm.create_model(ARCH, pretrained=True, pretrained_cfg_overlay={"file": weights})
    config = whole.pretrained_cfg

    def encoder(*_: object, **__: object) -> nn.Module:
        return nn.Sequential(whole.conv_stem, whole.bn1, *whole.blocks)

    files = [RAW / "images" / f"{name}.png" for name in table["name"]]
    data = SegmentationDataLoaders.from_label_func(
        RAW,
        bs=8,
        fnames=files,
        label_func=lambda path: RAW / "labels" / f"{path.stem}_P{path.suffix}",
        codes=np.array(codes),
        valid_func=lambda path: path.name in valid,
        batch_tfms=[Normalize.from_stats(config["mean"], config["std"])],
        num_workers=0,
    )
    learner = unet_learner(data, encoder, cut=lambda model: model, n_out=len(codes))
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(8)
        loader = data.test_dl([RAW / "images" / name for name in valid])
        said, _ = learner.get_preds(dl=loader)
    if "Void" in codes:
        said[:, codes.index("Void")] = -1
    np.save("answers.npy", said.argmax(dim=1).numpy())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
