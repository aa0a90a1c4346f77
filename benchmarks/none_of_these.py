"""Which score tells pictures of something else apart: neighbours (ours), Mahalanobis distance, energy or confidence.

    python benchmarks/none_of_these.py PROJECT FOLDER    # a finished run; a folder of pictures of something else

On the same features of PROJECT's retrained model, with the threshold of each score where 95 % of valid are kept: the
share of test that is kept, and for each kind of stranger AUROC against test and the share that is falsely accepted.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pawprint.exporting.graph import KEPT, Classifier, drawn_strangers
from pawprint.tables import read_table
from pawprint.training.inference import features
from pawprint.training.model import Head, load_model
from stages.export import photographs, read


def main(project: str, folder: str) -> None:
    """Measure all scores on the same features and print a row a score and kind."""
    folder = os.path.abspath(folder)
    os.chdir(project)
    torch.set_grad_enabled(False)
    model, config = load_model("models/retrained.safetensors")
    table = read_table("data/cleaned.csv")
    test = read_table("data/split.csv").query("split == 'test'")["path"].tolist()

    def seen(pictures: Tensor) -> Tensor:
        return features(model, pictures, config, torch.device("cpu"))

    train, valid = (table[table["split"] == split] for split in ("train", "valid"))
    known = seen(read(train["path"].tolist(), config))
    inside = {"valid": seen(read(valid["path"].tolist(), config)), "test": seen(read(test, config))}
    strangers = {**drawn_strangers(30, config.size), **photographs(folder, config)}
    outside = {kind: seen(pictures) for kind, pictures in strangers.items()}
    neighbours = Classifier(model, config).eval()
    neighbours.remember(known)
    print(
        f"{'score':12} {'strangers':14} {'pictures':>8} {'test kept':>9} {'AUROC':>6} {'accepted':>8}"
    )
    for name, score in scores(model, neighbours, known, train["label"].to_numpy()).items():
        limit, kept = (
            np.quantile(score(inside["valid"]), KEPT, method="higher"),
            score(inside["test"]),
        )
        for kind, others in outside.items():
            strange = score(others)
            area = roc_auc_score([0] * len(kept) + [1] * len(strange), np.r_[kept, strange])
            shares = f"{(kept <= limit).mean():9.3f} {area:6.3f} {(strange <= limit).mean():8.3f}"
            print(f"{name:12} {kind:14} {len(strange):8} {shares}")


def scores(
    model: nn.Module, neighbours: Classifier, known: Tensor, labels: np.ndarray
) -> dict[str, Callable[[Tensor], np.ndarray]]:
    """Functions from features (N, F) to scores (N,), higher for strangers.

    Mahalanobis is Lee et al.'s, arXiv:1807.03888,
    with a shrunken covariance; energy Liu et al.'s, arXiv:2010.03759;
    confidence Hendrycks and Gimpel's, arXiv:1610.02136.
    """
    classes, index = np.unique(labels, return_inverse=True)
    means = np.stack([known.numpy()[index == i].mean(axis=0) for i in range(len(classes))])
    precision = LedoitWolf().fit(known.numpy() - means[index]).precision_

    def mahalanobis(inputs: Tensor) -> np.ndarray:
        gaps = inputs.numpy()[:, None] - means[None]
        return np.einsum("ncf,fg,ncg->nc", gaps, precision, gaps, optimize=True).min(axis=1)

    return {
        "neighbours": lambda inputs: neighbours.answer(inputs)[1].numpy(),
        "mahalanobis": mahalanobis,
        "energy": lambda inputs: -Head(model)(inputs).logsumexp(dim=1).numpy(),
        "confidence": lambda inputs: -Head(model)(inputs).softmax(dim=1).amax(dim=1).numpy(),
    }


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
