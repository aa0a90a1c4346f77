"""An error rate and how far it can be trusted: the one way in which stages and commands put it."""

import numpy as np


def wilson(wrong: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an error rate (Wilson, JASA 22, 1927)."""
    from scipy.stats import binomtest  # here: it takes longer to import than most commands to run

    interval = binomtest(wrong, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def error_of(wrong: np.ndarray) -> dict[str, float | int]:
    """Error rate and Wilson's 95 % interval of a (pictures,) bool array."""
    low, high = wilson(int(wrong.sum()), len(wrong))
    return {
        "error_rate": float(wrong.mean()),
        "low": low,
        "high": high,
        "wrong": int(wrong.sum()),
        "pictures": len(wrong),
    }
