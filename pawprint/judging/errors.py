"""An error rate and its interval: the one shape in which metrics, tables and commands give it."""

import math
from statistics import NormalDist

import numpy as np

# The baselines and models that are judged, in the order of tables, with their names for people.
NAMES = {
    "majority": "most frequent class",
    "pixel_l1": "nearest mean picture, L1",
    "pixel_l2": "nearest mean picture, L2",
    "linear": "linear head on frozen features",
    "first": "first model",
    "retrained": "retrained model",
}
BASELINES = ("majority", "pixel_l1", "pixel_l2", "linear")
MODELS = ("first", "retrained")
CANDIDATES = ("retrained", "first", "linear")  # for export; the earlier one wins a tie


def wilson(wrong: int, pictures: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of an error rate (Wilson, JASA 22, 1927).

    Written out, because scipy's statistics take longer to import than most commands to run.
    """
    squared = NormalDist().inv_cdf(0.975) ** 2 / pictures
    rate = wrong / pictures
    middle = (rate + squared / 2) / (1 + squared)
    half = math.sqrt(rate * (1 - rate) * squared + squared**2 / 4) / (1 + squared)
    low = middle - half if wrong else 0.0
    return low, middle + half if wrong < pictures else 1.0


def error_rate(wrong: int, pictures: int) -> dict[str, float | int]:
    """Return error_rate, its interval (low, high), wrong and pictures."""
    low, high = wilson(wrong, pictures)
    return {
        "error_rate": wrong / pictures,
        "low": low,
        "high": high,
        "wrong": wrong,
        "pictures": pictures,
    }


def error_of(wrong: np.ndarray) -> dict[str, float | int]:
    """Return what `error_rate` does, for a mask of the wrong pictures, bool (pictures,)."""
    return error_rate(int(wrong.sum()), len(wrong))


def describe_error(error: dict[str, float]) -> str:
    """Return an error rate and its interval in percent: `2.4 % (0.7 to 8.4)`."""
    rate, low, high = (100 * error[key] for key in ("error_rate", "low", "high"))
    return f"{rate:.1f} % ({low:.1f} to {high:.1f})"
