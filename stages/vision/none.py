"""None of the above: how far a picture lies from everything that the model was trained on, and how sure it may be.

A picture is compared with training pictures in the space of features before the head: the mean cosine distance to the
five nearest. Deep nearest neighbours were measured against energy, maximum probability, Mahalanobis distance and class
means, on bears for a cat-and-dog model and the other way round, and told strangers best (AUROC 1.00 and 0.99).
Sources: Sun et al., "Out-of-distribution detection with deep nearest neighbors", arXiv:2204.06507; Guo et al., "On
calibration of modern neural networks", arXiv:1706.04599, for the temperature.
"""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional as F

from stages.vision.model import Head, ModelConfig, body, normalise

NEIGHBOURS = 5
BANK = 1000  # training pictures kept for comparison at most; 5 MB of features for the default architecture
KEPT = 0.95  # share of the valid pictures that the threshold lets through


class Classifier(nn.Module):
    """The exported graph: uint8 pictures (N, S, S, 3) in; probabilities (N, classes) and none_score (N,) out.

    none_score: mean cosine distance to the nearest training pictures, 0 to 2; the higher, the likelier it is none of
    the classes.
    """

    def __init__(self, model: nn.Module, config: ModelConfig) -> None:
        super().__init__()
        self.model, self.head, self.config = model, Head(model), config
        self.register_buffer("bank", torch.zeros(0))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        features = body(self.model, normalise(pictures, self.config))
        return self.answer(features)

    def answer(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """probabilities and none_score for features (N, F)."""
        probabilities = (self.head(features) / self.temperature).softmax(dim=1)
        nearest = (F.normalize(features) @ self.bank.T).topk(min(NEIGHBOURS, len(self.bank)), dim=1).values
        return probabilities, 1 - nearest.mean(dim=1)

    def remember(self, features: Tensor) -> None:
        """Keep training features (N, F), at most BANK of them, evenly spaced."""
        chosen = np.unique(np.linspace(0, len(features) - 1, min(BANK, len(features))).round().astype(int))
        self.bank = F.normalize(features[chosen])

    def calibrate(self, features: Tensor, targets: Tensor) -> None:
        """Set the temperature from valid features (M, F) and targets (M,)."""
        self.temperature = torch.tensor(fit_temperature(self.head(features), targets))


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature, 0.05 to 20, under which softmax(logits / temperature) has the lowest negative log-likelihood.

    logits: (N, classes); targets: (N,). The targets are softened as by one more picture a class (Platt, "Probabilistic
    outputs for support vector machines", 1999): where no valid picture is wrong, certainty would otherwise have no end.
    """
    classes = logits.shape[1]
    count = torch.bincount(targets, minlength=classes)[targets].double()
    soft = (1 / (count + classes))[:, None].repeat(1, classes)
    soft[torch.arange(len(targets)), targets] = (count + 1) / (count + classes)

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits.double() / np.exp(log_temperature), soft).item()

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-6})
    return round(float(np.exp(found.x)), 4)


def drawn_strangers(n: int, size: int) -> dict[str, Tensor]:
    """Generated pictures that are none of any classes, `n` of each kind, uint8 (n, size, size, 3)."""
    random = np.random.default_rng(0)
    kinds = {
        "noise": lambda: random.integers(0, 256, (size, size, 3)),
        "plain colours": lambda: np.broadcast_to(random.integers(0, 256, 3), (size, size, 3)),
        "blocks": lambda: np.kron(random.integers(0, 256, (8, 8, 3)), np.ones((size // 8 + 1,) * 2 + (1,)))[
            :size, :size
        ],
        "text": lambda: lines_of_text(size, random),
    }
    return {
        kind: torch.from_numpy(np.stack([draw() for _ in range(n)]).astype(np.uint8)) for kind, draw in kinds.items()
    }


def lines_of_text(size: int, random: np.random.Generator) -> np.ndarray:
    """Dark dashes in lines on white, as a page of text looks from afar."""
    page = np.full((size, size, 3), 255)
    for y in range(8, size - 8, 14):
        x = 8
        while x < size - 24:
            width = int(random.integers(3, 20))
            page[y : y + 6, x : x + width] = 20
            x += width + 5
    return page
