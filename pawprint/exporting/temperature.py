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
    (N, classes); targets: int64 (N,). The targets are softened as if each class had one more
    picture (Platt, "Probabilistic outputs for support vector machines", 1999). If no valid picture
    is wrong, the temperature would otherwise fall without end.
    """
    classes = logits.shape[1]
    count = torch.bincount(targets, minlength=classes)[targets].double()
    soft = (1 / (count + classes))[:, None].repeat(1, classes)
    soft[torch.arange(len(targets)), targets] = (count + 1) / (count + classes)

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits.double() / np.exp(log_temperature), soft).item()

    found = minimize_scalar(
        loss, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-6}
    )
    return round(float(np.exp(found.x)), 4)
