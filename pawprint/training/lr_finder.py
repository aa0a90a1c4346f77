"""The learning rate sweep, and what its loss curve suggests.

As in fast.ai's `lr_find` on a fresh learner, the body is frozen and the new head learns.
Source: Smith, "Cyclical learning rates for training neural networks", arXiv:1506.01186.
"""

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from tqdm import trange

from pawprint.params import Params
from pawprint.training.losses import class_weights
from pawprint.training.optimizer import make_optimizer
from pawprint.training.recipe import HeadParams

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


def run_sweep(
    head: nn.Linear, seen: Tensor, targets: Tensor, sweep: LrFindParams, params: HeadParams
) -> tuple[list[float], list[float]]:
    """Return learning rates and smoothed losses, one per step.

    head: the layer that learns; seen: features (N, F); targets: int64 (N,). The sweep ends early
    once the loss is four times the lowest.
    """
    generator = torch.Generator().manual_seed(params.seed)
    groups = [(list(head.named_parameters()), sweep.start_lr)]
    optimizer = make_optimizer(groups, params.weight_decay)
    weights = class_weights(targets, head.out_features, params)
    loss_of = nn.CrossEntropyLoss(weights, label_smoothing=params.label_smoothing)
    lrs: list[float] = []
    losses: list[float] = []
    average = 0.0
    for step in trange(sweep.num_it, desc="lr_find", unit="step"):
        lr = sweep.start_lr * (sweep.end_lr / sweep.start_lr) ** (step / (sweep.num_it - 1))
        for group in optimizer.param_groups:
            group["lr"] = lr
        order = torch.randperm(len(targets), generator=generator)
        batch = order[: params.batch_size].to(targets.device)
        loss = loss_of(head(seen[batch]), targets[batch])
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
    """Return fast.ai's suggestions for a sweep.

    lrs, losses: (steps,), in the order of the sweep. `valley` is the middle of the longest
    descent, `steep` the steepest point, `minimum` a tenth of the lr at the lowest loss. All are
    None, and `note` says why, if the curve shows no descent.
    """
    if len(losses) < 10 or losses.min() > 0.9 * losses[0]:
        rose = len(losses) < 10 or losses[-1] > 2 * losses[0]
        reason = "the loss never fell"
        if rose:
            reason = "the loss diverged at once: lower lr_find.start_lr"
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
    """Return the index in the middle of the longest falling subsequence, as fast.ai's `valley`."""
    length = np.ones(len(losses), dtype=int)
    for i in range(1, len(losses)):
        lower = length[:i][losses[:i] > losses[i]]
        length[i] = lower.max(initial=0) + 1
    end = int(length.argmax())
    first = end - int(length[end]) + 1
    return first + (end - first) // 2
