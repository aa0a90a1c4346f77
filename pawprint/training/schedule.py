"""Learning rate and momentum over the steps of a training, as functions of the share of the steps that is done."""

import math


def one_cycle(
    done: float, pct_start: float = 0.3, div: float = 5.0, div_final: float = 1e5
) -> tuple[float, float]:
    """The one-cycle policy with cosine arcs, as fast.ai's `fit_one_cycle`; the defaults are those of its `fine_tune`.

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


def warm_restarts(done: float, ends: list[int]) -> tuple[float, float]:
    """SGDR: within each cycle the rate falls along a cosine from the highest to zero, then it jumps back.

    done: share of the steps behind us, 0 to 1; ends: the epochs after which cycles end.
    Returns the factor for the highest learning rate, and the momentum, which stands at 0.9.
    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", arXiv:1608.03983, formula 5.
    """
    epoch = round(done * ends[-1], 9)  # a restart falls on its step, whatever the division rounded
    cycle = next((i for i, end in enumerate(ends) if epoch < end), len(ends) - 1)
    start = ends[cycle - 1] if cycle else 0
    return _cosine(1, 0, min((epoch - start) / (ends[cycle] - start), 1)), 0.9


def _cosine(start: float, end: float, part: float) -> float:
    return start + (1 - math.cos(math.pi * part)) * (end - start) / 2
