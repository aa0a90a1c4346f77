"""Which weights on the way from the frozen epochs' end to the last epoch become the model.

The whole model's epochs bend a good body to few pictures. Weights between those before and those
after are often better than both, and measuring a few of them takes a moment.
Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT), arXiv:2109.01903.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0)  # what train.blend: auto tries

Weights = dict[str, Tensor]


def copy_weights(model: nn.Module, saved: Mapping[str, Tensor] | None = None) -> Weights:
    """Return a copy of a model's weights, or of others for the same model, on its device."""
    values = model.state_dict()
    return {
        name: (saved or values)[name].detach().to(value.device, copy=True)
        for name, value in values.items()
    }


def blend(model: nn.Module, start: Weights, end: Weights, share: float) -> None:
    """Give a model the weights at a share of the way from `start` to `end`, in place."""
    for name, value in model.state_dict().items():
        whole = end[name] if share else start[name]
        mixed = 0 < share < 1 and value.is_floating_point()
        value.copy_(torch.lerp(start[name], end[name], share) if mixed else whole)


def choose_blend(
    model: nn.Module,
    start: Weights,
    shares: tuple[float, ...],
    known: Mapping[float, Mapping[str, Any]],
    measure: Callable[[], dict[str, float]],
) -> dict[str, float]:
    """Give a model the weights that err least on valid, in place; return its figures.

    model: with the weights at the end of the way. start: those at its beginning. shares: of the
    way, to choose from. known: the figures of shares that have been measured before. measure:
    return the figures of the model as it is, valid_loss and error_rate. Of shares that err alike,
    the nearest to 0.5 is taken, then the one of the lower loss, then the lower one. So the nearest
    are measured first, and if one errs on nothing, those that are further away are not.
    """
    end = copy_weights(model)
    best: dict[str, float] = {}
    for share in sorted(shares, key=from_middle):
        if best and best["error_rate"] == 0 and from_middle(best["blend"]) < from_middle(share):
            break  # no other can be better
        figures = known.get(share)
        if figures is None:
            blend(model, start, end, share)
            figures = measure()
        found = {"blend": share, **{key: figures[key] for key in ("valid_loss", "error_rate")}}
        best = min(best or found, found, key=rank)
    blend(model, start, end, best["blend"])
    return best


def rank(found: Mapping[str, float]) -> tuple[float, ...]:
    """Return what the best of several blends has the lowest of."""
    share = found["blend"]
    return found["error_rate"], from_middle(share), found["valid_loss"], share


def from_middle(share: float) -> float:
    """Return how far a share of the way is from half of it."""
    return abs(share - 0.5)
