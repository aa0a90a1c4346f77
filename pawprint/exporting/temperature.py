"""The temperature of the softmax, under which probabilities are as high as the model is right.

Source: Guo et al., "On calibration of modern neural networks", arXiv:1706.04599.
"""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Return the temperature, 0.05 to 20, that fits the targets best.

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

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits.double() / np.exp(log_temperature), soft).item()

    found = minimize_scalar(
        loss, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-6}
    )
    return round(float(np.exp(found.x)), 4)
