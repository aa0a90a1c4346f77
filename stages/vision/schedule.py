"""Learning rate and momentum over the steps of a training."""

import math


def one_cycle(done: float, pct_start: float = 0.3, div: float = 5.0, div_final: float = 1e5) -> tuple[float, float]:
    """The one-cycle policy with cosine arcs, as fast.ai's `fit_one_cycle`.

    done: share of the steps behind us, 0 to 1.
    Returns the factor for the highest learning rate (1/div, up to 1 at pct_start, down to 1/div_final) and the momentum
    (0.95, down to 0.85 at pct_start, back to 0.95).
    Source: Smith, "A disciplined approach to neural network hyper-parameters", arXiv:1803.09820.
    """
    if done < pct_start:
        part = done / pct_start
        return _cosine(1 / div, 1, part), _cosine(0.95, 0.85, part)
    part = (done - pct_start) / max(1 - pct_start, 1e-12)
    return _cosine(1, 1 / div_final, part), _cosine(0.85, 0.95, part)


def _cosine(start: float, end: float, part: float) -> float:
    return start + (1 - math.cos(math.pi * part)) * (end - start) / 2
