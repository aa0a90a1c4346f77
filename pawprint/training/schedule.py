"""Learning rate and momentum over the steps of a training."""

import math
from collections.abc import Callable
from functools import partial

from pawprint.training.recipe import TrainParams, cycle_ends

# From the share of the steps done, 0 to 1, to a factor for the highest learning rates, and the
# momentum.
Schedule = Callable[[float], tuple[float, float]]


def schedule_of(params: TrainParams) -> Schedule:
    """Return the schedule of the epochs of the whole model, as `train.method` says."""
    if params.method == "sgdr":
        ends = cycle_ends(params.epochs, params.cycle_len, params.cycle_mult)
        return partial(warm_restarts, ends=ends)
    if params.method == "fit_one_cycle":
        return partial(one_cycle, pct_start=0.25, div=25.0)
    return one_cycle


def one_cycle(
    done: float, pct_start: float = 0.3, div: float = 5.0, div_final: float = 1e5
) -> tuple[float, float]:
    """Return the factor and the momentum of the one-cycle policy with cosine arcs.

    The factor rises from 1/div to 1 at `pct_start` and falls to 1/div_final; the momentum falls
    from 0.95 to 0.85 and rises again. It is fast.ai's `fit_one_cycle`; the defaults are those of
    its `fine_tune`.
    Source: Smith, "A disciplined approach to neural network hyper-parameters", arXiv:1803.09820.
    """
    if done < pct_start:
        part = done / pct_start
        return _cosine(1 / div, 1, part), _cosine(0.95, 0.85, part)
    part = (done - pct_start) / max(1 - pct_start, 1e-12)
    return _cosine(1, 1 / div_final, part), _cosine(0.85, 0.95, part)


def warm_restarts(done: float, ends: list[int]) -> tuple[float, float]:
    """Return the factor and the momentum, 0.9, of SGDR.

    Within each cycle the factor falls along a cosine from 1 to 0, then it jumps back. ends: the
    epochs after which cycles end.
    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts",
    arXiv:1608.03983, formula 5.
    """
    epoch = round(done * ends[-1], 9)  # so that a restart falls on its step in spite of rounding
    cycle = next((i for i, end in enumerate(ends) if epoch < end), len(ends) - 1)
    start = ends[cycle - 1] if cycle else 0
    return _cosine(1, 0, min((epoch - start) / (ends[cycle] - start), 1)), 0.9


def _cosine(start: float, end: float, part: float) -> float:
    return start + (1 - math.cos(math.pi * part)) * (end - start) / 2
