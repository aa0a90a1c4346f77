"""A network in two parts: the frozen layers, and those that learn.

What frozen layers say about a picture is the same in every epoch, so the pictures of valid go
through them once. Nothing is computed backwards through them either, so they can be a settled copy
(pawprint/training/fold.py). The numbers are those of the whole network to rounding, or it is not
parted.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pawprint.training.fold import Pairs, keep_statistics, replace, settle

TOGETHER = 32  # pictures of a batch: what the last layers keep of them is small


class Reached(Exception):
    """Ends a forward pass after the last frozen layer."""


class Beginning:
    """The frozen layers, for inputs (N, 3, H, W). No module, so that it is not trained."""

    def __init__(self, network: nn.Module, last: str) -> None:
        self.network, self.seen = network.eval(), torch.empty(0)
        network.get_submodule(last).register_forward_hook(self._stop)

    def _stop(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self.seen = output
        raise Reached

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Return what the first layer that learns reads, (N, ...)."""
        try:
            self.network(inputs)
        except Reached:
            return self.seen
        raise AssertionError("the last frozen layer was not reached")


class Given(nn.Module):
    """Stands for the last frozen layer: gives what it was given to say."""

    seen: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        return self.seen


class Parted(nn.Module):
    """The same as a whole network; `begin` and `end` are its two parts.

    network: the layers that learn, with `given` in the place of the last frozen one.
    """

    def __init__(self, begin: Beginning, network: nn.Module, given: Given) -> None:
        super().__init__()
        self.begin, self.network, self.given = begin, network, given

    def forward(self, inputs: Tensor) -> Tensor:
        return self.end(self.begin(inputs))

    def end(self, seen: Tensor) -> Tensor:
        """Return the logits (N, classes) for what `begin` returned."""
        self.given.seen = seen
        return self.network(seen.new_zeros(len(seen), 3, 8, 8))  # nothing looks at these pixels


def in_parts(model: nn.Module, size: int, folded: nn.Module, pairs: Pairs) -> nn.Module:
    """Return `folded` in two parts, or as it is if it cannot be parted.

    model: on a CPU, in float32; its parameters without gradients are frozen for good. size: side of
    a picture to try it with. folded: as `fold` gives it for `pairs`. What learns is shared by all
    three.
    """
    probe = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    probe = probe.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        names = frozen_beginning(model, probe)
        if not names:
            return folded
        begin = Beginning(settle(model, size, pairs), names[-1])
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        rest, given = copy.deepcopy(folded, shared), Given()
        for name in names[:-1]:
            replace(rest, name, nn.Identity())
        replace(rest, names[-1], given)
        parted = Parted(begin, rest, given)

        # tried without zeros: those of a new head would hide all that comes before
        learns = [each for each in model.parameters() if each.requires_grad]
        zeros = [each for each in learns if not each.any()]
        for parameter in zeros:
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
        try:
            found, wanted = parted.eval()(probe), folded.eval()(probe)
            same = (found - wanted).abs().max() <= 1e-3 * wanted.abs().max()
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            same = torch.tensor(False)  # the layers do not simply follow each other
        for parameter in zeros:
            parameter.zero_()
    return parted if same else folded


def frozen_beginning(model: nn.Module, probe: Tensor) -> list[str]:
    """Return the names of the frozen layers that come before all that learns, in their order.

    There are none if one of them is asked twice or draws random numbers. probe: (N, 3, H, W).
    """
    frozen = list(frozen_layers(model))
    learns = [
        each
        for each in model.modules()
        if any(parameter.requires_grad for parameter in each.parameters(recurse=False))
    ]
    called: list[str] = []
    states: list[Tensor] = []
    reached: list[bool] = []

    def note(name: str) -> None:
        if not reached:
            called.append(name)
            states.append(torch.get_rng_state())

    hooks = [each.register_forward_pre_hook(lambda *_: reached.append(True)) for each in learns]
    for name in frozen:
        layer = model.get_submodule(name)
        hooks.append(layer.register_forward_hook(lambda *_, name=name: note(name)))
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        keep_statistics(model.train())
        model(probe)
    for hook in hooks:
        hook.remove()
    alike = not states or torch.equal(before, states[-1])
    return called if alike and len(set(called)) == len(called) else []


def frozen_layers(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Yield the names of the largest layers in a model that have parameters, all of them frozen."""
    for name, child in module.named_children():
        learn = [parameter.requires_grad for parameter in child.parameters()]
        if learn and not any(learn):
            yield f"{prefix}{name}"
        else:
            yield from frozen_layers(child, f"{prefix}{name}.")
