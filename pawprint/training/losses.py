"""The loss: cross entropy, with label smoothing, class weights and mixup."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pawprint.training.recipe import HeadParams

Targets = list[tuple[float, Tensor]]  # shares in the loss, which add up to 1, and targets (N,)


@dataclass(frozen=True)
class CrossEntropy:
    """Mean cross entropy of a batch.

    smoothing: share of the target that is spread over all classes; weights: of the classes in the
    mean, (classes,), or None.
    """

    smoothing: float
    weights: Tensor | None

    def __call__(self, logits: Tensor, targets: Tensor, batch: Tensor | None = None) -> Tensor:
        """Return the loss of logits (n, classes) for targets (n,), one number.

        batch: the targets (N,) of the whole batch, if the logits are a part of one. The sum over
        the parts is then the mean over the batch.
        """
        weights = None if self.weights is None else self.weights.to(logits.device)
        total = F.cross_entropy(
            logits.float(), targets, weights, reduction="sum", label_smoothing=self.smoothing
        )
        batch = targets if batch is None else batch
        return total / (len(batch) if weights is None else weights[batch].sum())


def class_weights(targets: Tensor, classes: int, params: HeadParams) -> Tensor | None:
    """Return weights (classes,) under which every class counts the same in the loss.

    None if `train.class_weights` is none. targets: of the training split, (N,). The mean weight of
    a picture is 1. Source: King and Zeng, "Logistic regression in rare events data", as
    scikit-learn's `class_weight="balanced"`.
    """
    if params.class_weights == "none":
        return None
    return len(targets) / (classes * targets.bincount(minlength=classes).clamp(min=1).float())


def mixup(
    inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Targets]:
    """Blend each input with another one of the batch; return the blends and their targets.

    inputs: (N, ...); targets: (N,). One share for the batch is drawn from Beta(alpha, alpha).
    alpha 0 changes nothing and draws nothing.
    Source: Zhang et al., "mixup: beyond empirical risk minimization", arXiv:1710.09412, and the
    authors' code.
    """
    if not alpha:
        return inputs, [(1.0, targets)]
    seed = int(torch.randint(2**62, (1,), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    other = torch.randperm(len(targets), generator=generator).to(inputs.device)
    blended = share * inputs + (1 - share) * inputs[other]
    return blended, [(share, targets), (1 - share, targets[other])]
