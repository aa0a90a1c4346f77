"""What takes the steps: AdamW, a learning rate for each layer, and the average of the weights."""

from typing import Any

import torch
from torch import Tensor, nn

# Named parameters that learn together, and their highest learning rate.
Group = tuple[list[tuple[str, nn.Parameter]], float]


def make_optimizer(groups: list[Group], weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW as fast.ai sets it: eps 1e-5, no decay of biases and batch-norm.

    Its `param_groups` are in the order of `groups`; `max_lr` is the highest learning rate of each.
    """
    split = []
    for named, lr in groups:
        for decays in (False, True):
            chosen = [parameter for _, parameter in named if (parameter.ndim > 1) == decays]
            decay = weight_decay if decays else 0.0
            if chosen:
                group = {"params": chosen, "lr": lr, "max_lr": lr, "weight_decay": decay}
                split.append(group)
    # fused: one pass over each weight, in a third of the time on a CPU
    cpu = all(each.device.type == "cpu" for named, _ in groups for _, each in named)
    return torch.optim.AdamW(split, lr=0.0, betas=(0.95, 0.99), eps=1e-5, fused=cpu or None)


def layer_groups(model: nn.Module, lrs: tuple[float, float]) -> list[Group]:
    """Return the model's layers, from input to head, each with its highest learning rate.

    lrs: of the first layers and of the head; the others lie between, evenly in the logarithm.
    Source: Howard and Ruder, arXiv:1801.06146 (discriminative learning rates).
    """
    from timm.models import group_parameters  # here: what fits a head alone needs no timm

    low, high = lrs
    named = dict(model.named_parameters())
    timm_model: Any = model
    layers = group_parameters(model, timm_model.group_matcher(coarse=True))
    order = [layers[key] for key in sorted(layers)]
    steps = max(len(order) - 1, 1)
    return [
        ([(name, named[name]) for name in names], low * (high / low) ** (i / steps))
        for i, names in enumerate(order)
    ]


def freeze_first(groups: list[Group], share: float) -> list[Group]:
    """Switch off the gradients of the first layers; return the groups that go on learning.

    share: of the groups before the head, 0 to 1, rounded down. Nothing is stored for layers without
    gradients, and nothing is computed backwards through them.
    """
    count = int(share * (len(groups) - 1) + 1e-9)
    for named, _ in groups[:count]:
        for _, parameter in named:
            parameter.requires_grad_(False)
    return groups[count:]


def moving_average(decay: float, old: Tensor, new: Tensor, updates: Tensor | int) -> Tensor:
    """Return one step of an exponential moving average, from `old` towards `new`.

    The decay is lower in the first steps, so that the average soon forgets where it began.
    Source: Polyak and Juditsky, doi:10.1137/0330046; the warm-up, (1 + n) / (10 + n), is
    TensorFlow's.
    """
    n = float(updates)
    return torch.lerp(old, new, 1 - min(decay, (1 + n) / (10 + n)))
