"""Compare scores that tell pictures of something else apart, on the same features.

    python -m benchmarks.none_of_these PROJECT FOLDER

PROJECT: a folder in which the pipeline has run to the end; FOLDER: pictures of something else.
On features of PROJECT's retrained model it compares neighbours (ours), Mahalanobis distance, energy
and confidence. Each score's threshold keeps 95 % of valid. A row per score and kind of stranger
says which share of test is kept, the AUROC against test, and which share is falsely accepted.
"""

import argparse
import os
from collections.abc import Callable

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn

from pawprint.exporting.graph import ExportGraph, bank_rows
from pawprint.judging.none_of_these import KEPT, auroc, draw_strangers, load_strangers
from pawprint.params import load_params
from pawprint.pictures.batches import Pictures, load_pictures
from pawprint.pictures.storing import VerifyParams
from pawprint.tables import read_json, read_table
from pawprint.training.inference import compute_features
from pawprint.training.model import Head, load_model

Score = Callable[[Tensor], np.ndarray]


def main() -> None:
    """Compare the scores on PROJECT's pictures and FOLDER's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project")
    parser.add_argument("folder")
    arguments = parser.parse_args()
    folder = os.path.abspath(arguments.folder)
    os.chdir(arguments.project)
    torch.set_grad_enabled(False)
    compare(folder)


def compare(folder: str) -> None:
    """Compute all features once, and print one row per score and kind of stranger."""
    model, config = load_model("models/retrained.safetensors")
    how = load_params("verify", VerifyParams).preparation({})
    cleaned, split = read_table("data/cleaned.csv"), read_table("data/split.csv")
    train, valid = (cleaned[cleaned["split"] == side] for side in ("train", "valid"))
    test = split[split["split"] == "test"]

    def seen(pictures: Pictures) -> Tensor:
        return compute_features(model, pictures, config, torch.device("cpu"))

    def seen_in(paths: list[str]) -> Tensor:
        return seen(load_pictures(paths, config.size, config.resize, config.interpolation))

    known = seen_in(train["path"].tolist())
    of_valid, of_test = seen_in(valid["path"].tolist()), seen_in(test["path"].tolist())
    verify = load_params("verify", VerifyParams)
    how = verify.preparation(read_json("metrics/verify.json").get("ranges", {}))
    strangers = {**draw_strangers(30, config.size), **load_strangers(folder, config, how)}
    outside = {kind: seen(pictures) for kind, pictures in strangers.items()}
    graph = ExportGraph(model, config).eval()
    graph.remember(known[bank_rows(train["label"])])

    print("score        stranger       pictures test kept  AUROC accepted")
    for name, score in scores(model, graph, known, train["label"].to_numpy()).items():
        limit, kept = np.quantile(score(of_valid), KEPT, method="higher"), score(of_test)
        for kind, others in outside.items():
            strange = score(others)
            area, through = auroc(kept, strange), (strange <= limit).mean()
            shares = f"{(kept <= limit).mean():9.3f} {area:6.3f} {through:8.3f}"
            print(f"{name:12} {kind:14} {len(strange):8} {shares}")


def scores(
    model: nn.Module, graph: ExportGraph, known: Tensor, labels: np.ndarray
) -> dict[str, Score]:
    """Return functions from features (N, F) to scores (N,), higher for strangers.

    known, labels: features (M, F) and labels (M,) of the training pictures. Mahalanobis is Lee et
    al.'s (arXiv:1807.03888) with a shrunken covariance, energy Liu et al.'s (arXiv:2010.03759),
    confidence Hendrycks and Gimpel's (arXiv:1610.02136).
    """
    head = Head(model)
    classes, index = np.unique(labels, return_inverse=True)
    means = np.stack([known.numpy()[index == i].mean(axis=0) for i in range(len(classes))])
    precision = LedoitWolf().fit(known.numpy() - means[index]).precision_

    def neighbours(inputs: Tensor) -> np.ndarray:
        return graph.answer(inputs)[1].numpy()

    def mahalanobis(inputs: Tensor) -> np.ndarray:
        gaps = inputs.numpy()[:, None] - means[None]
        return np.einsum("ncf,fg,ncg->nc", gaps, precision, gaps, optimize=True).min(axis=1)

    def energy(inputs: Tensor) -> np.ndarray:
        return -head(inputs).logsumexp(dim=1).numpy()

    def confidence(inputs: Tensor) -> np.ndarray:
        return -head(inputs).softmax(dim=1).amax(dim=1).numpy()

    functions = (neighbours, mahalanobis, energy, confidence)
    return {function.__name__: function for function in functions}


if __name__ == "__main__":
    main()
