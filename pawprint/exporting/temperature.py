"""The temperature of the softmax, under which probabilities are as high as the model is right.

Source: Guo et al., "On calibration of modern neural networks", arXiv:1706.04599.
"""

import torch
from torch import Tensor

LOWEST, HIGHEST = 0.05, 20.0
HALVINGS = 50  # after which what is left of the range is below the rounding of its numbers


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Return the temperature, LOWEST to HIGHEST, that fits the targets best.

    Under it, softmax(logits / temperature) has the lowest negative log-likelihood. logits:
    (N, classes); targets: int64 (N,). If no picture is wrong, the temperature would fall without
    end. So the targets are softened by what the error of the next picture is expected to be then,
    1 / (N + 2): Laplace's rule of succession, which Platt applied to each of two classes
    ("Probabilistic outputs for support vector machines", 1999). All pictures count together,
    because they share the one temperature, and a rare class has too few.
    """
    count, classes = logits.shape
    wrong = 1 / (count + 2)
    soft = torch.full((count, classes), wrong / (classes - 1), dtype=torch.float64)
    soft[torch.arange(count), targets] = 1 - wrong

    # the loss is convex in 1 / temperature, so its slope is zero at one place, found by halving
    exact = logits.double()
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        slope = (exact * ((exact * middle).softmax(dim=1) - soft)).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return round(2 / (low + high), 4)
