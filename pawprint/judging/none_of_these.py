"""None of these: the threshold from which a picture belongs to no class, and how well it works.

The threshold is set on valid, then measured on test and on strangers: pictures of something else.
Some strangers are drawn here; photographs of strangers come from the folder `export.strangers`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pawprint.params import StageError
from pawprint.pictures.batches import Pictures, load_pictures
from pawprint.pictures.formats import looks_like_picture
from pawprint.pictures.opening import Preparation
from pawprint.training.stored import ModelConfig

KEPT = 0.95  # share of the valid pictures that the threshold lets through
ROUNDING = 1e-5  # how much a score may change in another batch; no picture sits on the threshold
MOST_STRANGERS = 1000  # pictures read from export.strangers at most, evenly spaced
QUANTILES = 1000  # confidences kept in reference.json at most


def set_threshold(scores: np.ndarray) -> float:
    """Return the threshold that lets KEPT of the valid pictures through; scores: (N,) of valid."""
    return round(float(np.quantile(scores, KEPT, method="higher")) + ROUNDING, 6)


def measure_threshold(
    threshold: float, valid: np.ndarray, test: np.ndarray, strange: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Return the figures of a threshold for metrics/export.json.

    valid, test: scores (N,) and (M,); strange: scores (K,) for every kind of stranger.
    """
    figures: dict[str, Any] = {
        "threshold": threshold,
        "valid_kept": float((valid <= threshold).mean()),
        "test_kept": float((test <= threshold).mean()),
        "strangers": {},
    }
    for kind, scores in strange.items():
        figures["strangers"][kind] = {
            "pictures": len(scores),
            "auroc": auroc(test, scores),
            "accepted": float((scores <= threshold).mean()),
        }
    return figures


def auroc(low: np.ndarray, high: np.ndarray) -> float:
    """Return how often a score of `high` is above one of `low`, 0 to 1; equal ones count half.

    That is the area under the ROC curve of a score that is to tell them apart. low: (N,); high:
    (M,). Source: Hanley and McNeil, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 143, 1982.
    """
    ordered = np.sort(low)
    below, up_to = (np.searchsorted(ordered, high, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(low)))


def reference_of(
    probabilities: np.ndarray, scores: np.ndarray, threshold: float, classes: tuple[str, ...]
) -> dict[str, Any]:
    """Return what the graph says about valid, for `pawprint drift` to compare with.

    probabilities: (N, classes); scores: (N,).
    """
    confidence = np.sort(probabilities.max(axis=1))
    answers = np.bincount(probabilities.argmax(axis=1), minlength=len(classes))
    return {
        "pictures": len(scores),
        "classes": dict(zip(classes, answers.tolist(), strict=True)),
        "none": int((scores > threshold).sum()),
        "confidence": confidence[evenly_spaced(len(scores), QUANTILES)].tolist(),
    }


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Return at most `most` evenly spaced indexes below `count`, in order."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


def load_strangers(folder: str, config: ModelConfig, how: Preparation) -> dict[str, Pictures]:
    """Load the photographs in the folder `export.strangers`, if there are any, by kind.

    how: as verify prepares pictures.

    Raises StageError that names a picture which cannot be read.
    """
    paths = sorted(str(path) for path in Path(folder).rglob("*") if looks_like_picture(path.name))
    if not paths:
        return {}
    chosen = [paths[i] for i in evenly_spaced(len(paths), MOST_STRANGERS)]
    try:
        pictures = load_pictures(chosen, config.size, config.resize, config.interpolation, how)
    except StageError as error:
        reason = str(error).partition(";")[0]
        raise StageError(f"export.strangers: {reason}; take it out of the folder") from None
    return {"photographs": pictures}


def draw_strangers(n: int, size: int) -> dict[str, Tensor]:
    """Draw `n` pictures of each kind that belong to no class, uint8 (n, size, size, 3)."""
    random = np.random.default_rng(0)
    draw = {
        "noise": lambda: random.integers(0, 256, (size, size, 3)),
        "plain colours": lambda: np.broadcast_to(random.integers(0, 256, 3), (size, size, 3)),
        "blocks": lambda: draw_blocks(size, random),
        "text": lambda: draw_text(size, random),
    }
    drawn = {}
    for kind, one in draw.items():
        pictures = np.stack([one() for _ in range(n)])
        drawn[kind] = torch.from_numpy(pictures.astype(np.uint8))
    return drawn


def draw_blocks(size: int, random: np.random.Generator) -> np.ndarray:
    """Draw a chessboard of 8 by 8 random colours, (size, size, 3)."""
    colours = random.integers(0, 256, (8, 8, 3))
    block = np.ones((size // 8 + 1, size // 8 + 1, 1))
    return np.kron(colours, block)[:size, :size]


def draw_text(size: int, random: np.random.Generator) -> np.ndarray:
    """Draw dark dashes in lines on white, like a page of text from afar, (size, size, 3)."""
    page = np.full((size, size, 3), 255)
    for y in range(8, size - 8, 14):
        x = 8
        while x < size - 24:
            width = int(random.integers(3, 20))
            page[y : y + 6, x : x + width] = 20
            x += width + 5
    return page
