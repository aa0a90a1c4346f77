"""Padding as TensorFlow's "SAME" does it, in numbers that are known before a picture is seen.

Such layers of timm compute their padding from the size of what comes in. Traced for batches of any
number, that stays in the graph: ten small nodes and a copy of the picture before each convolution.
An exported graph and a model that only answers take pictures of one size, so the padding is a
constant, which onnxruntime makes part of the convolution.
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

PLAIN: dict[type, Any] = {
    Conv2dSame: nn.Conv2d,
    AvgPool2dSame: nn.AvgPool2d,
    MaxPool2dSame: nn.MaxPool2d,
}
SWITCHED = (StdConv2dSame, ScaledStdConv2dSame)  # their `same_pad` says whether they pad so


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
