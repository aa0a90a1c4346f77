"""A recipe for a tiny architecture."""

from pawprint.training.recipe import TrainParams
from tests.support.project import ROOT

RECIPE = {
    "arch": "test_efficientnet",
    "pretrained": False,
    "weights": str(ROOT / "data/weights"),
    "seed": 1,
    "size": 64,
    "train_size": 64,
    "resize": "crop",
    "batch_size": 8,
    "freeze_epochs": 1,
    "method": "fine_tune",
    "epochs": 1,
    "freeze_layers": 0,
    "blend": 1,
    "cycle_len": 1,
    "cycle_mult": 1,
    "lr": 0.002,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "mixup": 0,
    "class_weights": "none",
    "ema": 0,
    "precision": "fp32",
    "augment": {
        "mult": 1,
        "min_scale": 0.5,
        "flip": 0.5,
        "rotate": 10,
        "zoom": 1.1,
        "warp": 0.2,
        "lighting": 0.2,
    },
}


STILL = {"mult": 1, "min_scale": 1, "flip": 0, "rotate": 0, "zoom": 1, "warp": 0, "lighting": 0}


def recipe(**changes: object) -> TrainParams:
    return TrainParams.model_validate({**RECIPE, **changes})
