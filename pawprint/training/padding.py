"""Padding as TensorFlow's "SAME" does it, without a copy of what is padded.

Such layers of timm compute their padding from the size of what comes in, and often need one pixel
more after it than before it. torch's convolutions pad both sides alike, so timm copies the whole
input into a larger one. `PadByKernel` gives the kernel a first row and column of zeros instead.

Traced for batches of any number, the computation stays in the graph: ten small nodes before each
convolution. An exported graph takes pictures of one size, so `with_constant_pads` makes the padding
a constant, which onnxruntime makes part of the convolution.
"""

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from timm.layers import AvgPool2dSame, Conv2dSame, get_same_padding
from timm.layers.pool2d_same import MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from pawprint.training.depthwise import convolve

PLAIN: dict[type, Any] = {
    Conv2dSame: nn.Conv2d,
    AvgPool2dSame: nn.AvgPool2d,
    MaxPool2dSame: nn.MaxPool2d,
}
SWITCHED = (StdConv2dSame, ScaledStdConv2dSame)  # their `same_pad` says whether they pad so


class PadByKernel(Conv2dSame):
    """The same convolution, which pads by its kernel where it can instead of copying its input.

    One pixel more after the input than before it, for a kernel of k pixels, is the same padding on
    both sides for a kernel of k + 1 pixels, of which the first row or column is zero. A kernel with
    gaps (dilation) is left to timm.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.dilation != (1, 1):
            return super().forward(x)
        weight, pads = self.weight_and_pads(x)
        return convolve(self, x, weight, pads)

    def weight_and_pads(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return the kernel with its zeros, and the padding on both sides, for inputs `x`."""
        of = zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)
        height, width = (get_same_padding(*each, 1) for each in of)
        weight = self.weight
        if height % 2 or width % 2:
            weight = F.pad(weight, (width % 2, 0, height % 2, 0))
        return weight, ((height + 1) // 2, (width + 1) // 2)


def pad_by_kernel(model: nn.Module) -> nn.Module:
    """Let the convolutions of a model that pad as "SAME" do so by their kernels, in place."""
    for module in model.modules():
        if type(module) is Conv2dSame:
            module.__class__ = PadByKernel
    return model


def with_constant_pads(graph: nn.Module, pictures: Tensor) -> nn.Module:
    """Return a copy of `graph` that pads by constants: those for inputs as large as `pictures`.

    Layers that see inputs of several sizes stay as they are.
    """
    graph = copy.deepcopy(graph)
    sizes: dict[nn.Module, set[tuple[int, int]]] = defaultdict(set)

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        height, width = inputs[0].shape[-2:]
        sizes[layer].add((height, width))

    layers = [each for each in graph.modules() if type(each) in PLAIN or is_switched(each)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    with torch.no_grad():
        graph(pictures)
    for hook in hooks:
        hook.remove()
    for layer, seen in sizes.items():
        if len(seen) == 1:
            layer.forward = padded(layer, *seen)
    return graph


def is_switched(layer: nn.Module) -> bool:
    """Return whether a layer of standardised weights pads as "SAME"."""
    return isinstance(layer, SWITCHED) and layer.same_pad


def padded(layer: Any, size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """Return what `layer` computes for inputs (N, C, height, width), its padding a constant.

    size: height and width.
    """
    of = (two(layer.kernel_size), two(layer.stride), two(getattr(layer, "dilation", 1)))
    height, width = map(get_same_padding, size, *of)
    pads = (width // 2, width - width // 2, height // 2, height - height // 2)
    lowest = -float("inf") if isinstance(layer, nn.MaxPool2d) else 0.0
    plain = PLAIN.get(type(layer), type(layer)).forward
    if isinstance(layer, SWITCHED):
        layer.same_pad = False
    return lambda inputs: plain(layer, F.pad(inputs, pads, value=lowest))


def two(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return a size of a kernel, a stride or a dilation as height and width."""
    return (value, value) if isinstance(value, int) else value
