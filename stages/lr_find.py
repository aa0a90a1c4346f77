"""Sweep the learning rate upwards, and read off the loss curve which ones train well.

Reads data/split.csv and data/images. Writes metrics/lr_find.csv (lr, loss) and metrics/lr_find.json (suggestions).

As in fast.ai's `lr_find` on a fresh learner, the body is frozen and the new head learns; features are computed once.
Source: Smith, "Cyclical learning rates for training neural networks", arXiv:1506.01186. The suggestions are fast.ai's:
`valley` (the middle of the longest descent), `steep` (the steepest point), `minimum` (a tenth of the rate
at the lowest loss). Where the curve shows no descent, they are null, and a note says what is wrong with it.
"""

import sys

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from tqdm import trange

from stages.params import Params, load_params, run_stage
from stages.tables import read_table, write_json, write_table
from stages.vision.batches import load_pictures
from stages.vision.device import ComputeParams, start
from stages.vision.learner import class_weights, make_optimizer, precision
from stages.vision.model import Head, create_model
from stages.vision.predict import features
from stages.vision.recipe import TrainParams

SMOOTHING = 0.98  # of the exponential moving average of the loss, as in fast.ai


class LrFindParams(Params):
    """The section `lr_find` of params.yaml."""

    start_lr: float = Field(gt=0, le=1)
    end_lr: float = Field(gt=0, le=1000)
    num_it: int = Field(ge=20, le=10_000)

    @model_validator(mode="after")
    def _upwards(self) -> "LrFindParams":
        if self.start_lr >= self.end_lr:
            raise ValueError("should sweep upwards: start_lr must be below end_lr")
        return self


def main() -> None:
    sweep, params = load_params("lr_find", LrFindParams), load_params("train", TrainParams)
    device = start(load_params("compute", ComputeParams), params.seed)
    table = read_table("data/split.csv")
    classes = sorted(table["label"].unique())
    rows = table[table["split"] == "train"]
    model, config = create_model(params, classes)
    pictures = load_pictures(rows["path"].tolist(), config.size, config.resize, config.interpolation)
    targets = torch.tensor(rows["label"].map(classes.index).tolist(), device=device)
    with precision(params, device):
        seen = features(model, pictures, config, device).to(device)
    lrs, losses = run_sweep(Head(model).eval(), seen, targets, sweep, params)
    found = suggest(np.array(lrs), np.array(losses))
    write_table("metrics/lr_find.csv", pd.DataFrame({"lr": lrs, "loss": losses}))
    write_json("metrics/lr_find.json", found)
    rates = ", ".join(f"{name} {found[name]:.2g}" for name in ("valley", "steep", "minimum") if found[name])
    print(f"lr_find: {rates or 'no suggestion: ' + found['note']}", file=sys.stderr)


def run_sweep(
    layer: nn.Module, seen: Tensor, targets: Tensor, sweep: LrFindParams, params: TrainParams
) -> tuple[list[float], list[float]]:
    """Learning rates and smoothed losses; ends early once the loss is four times the lowest.

    seen: features (N, F); targets: int64 (N,).
    """
    generator = torch.Generator().manual_seed(params.seed)
    optimizer = make_optimizer([(list(layer.named_parameters()), sweep.start_lr)], params.weight_decay)
    weights = class_weights(targets, layer.out_features, params)
    loss_of = nn.CrossEntropyLoss(weights, label_smoothing=params.label_smoothing)
    lrs, losses, average = [], [], 0.0
    for step in trange(sweep.num_it, desc="lr_find", unit="step"):
        lr = sweep.start_lr * (sweep.end_lr / sweep.start_lr) ** (step / (sweep.num_it - 1))
        for group in optimizer.param_groups:
            group["lr"] = lr
        batch = torch.randperm(len(targets), generator=generator)[: params.batch_size].to(targets.device)
        loss = loss_of(layer(seen[batch]), targets[batch])
        average = average * SMOOTHING + loss.item() * (1 - SMOOTHING)
        smooth = average / (1 - SMOOTHING ** (step + 1))
        if not np.isfinite(smooth) or (losses and smooth > 4 * min(losses)):
            break
        lrs.append(lr)
        losses.append(smooth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return lrs, losses


def suggest(lrs: np.ndarray, losses: np.ndarray) -> dict[str, object]:
    """The suggestions for a sweep; all None, with a reason, where the curve shows no descent to read them from.

    lrs, losses: (steps,), in the order of the sweep.
    """
    if len(losses) < 10 or losses.min() > 0.9 * losses[0]:
        rose = len(losses) < 10 or losses[-1] > 2 * losses[0]
        reason = "the loss diverged at once: lower lr_find.start_lr" if rose else "the loss never fell"
        return {"valley": None, "steep": None, "minimum": None, "note": reason}
    lowest = int(losses.argmin())
    slope = np.gradient(losses, np.log(lrs))
    return {
        "valley": lrs[valley(losses)],
        "steep": lrs[int(slope.argmin())],
        "minimum": lrs[lowest] / 10,
        "note": "",
    }


def valley(losses: np.ndarray) -> int:
    """The index in the middle of the longest descent (longest decreasing subsequence), as fast.ai's `valley`."""
    length = np.ones(len(losses), dtype=int)
    for i in range(1, len(losses)):
        lower = length[:i][losses[:i] > losses[i]]
        length[i] = lower.max(initial=0) + 1
    end = int(length.argmax())
    first = end - int(length[end]) + 1
    return first + (end - first) // 2


if __name__ == "__main__":
    run_stage(main)
