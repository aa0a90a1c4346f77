"""A convolution and the activation after it in one step of oneDNN.

By itself, an activation reads and writes all that the convolution has just written: on a CPU that
takes a sixth of a forward pass. The numbers are the same to the last bit. Only ReLU and ReLU6 are
fused, which limit values and compute none. The operation is the one that torch's own compiler uses
on a CPU; where torch lacks it, nothing is fused.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pawprint.training.padding import PadByKernel


class FusedConv(nn.Module):
    """A convolution with its activation, for float32 on a CPU. It learns no more."""

    def __init__(self, conv: nn.Conv2d, limits: tuple[str, list[float]]) -> None:
        super().__init__()
        self.conv, self.limits = conv, limits

    def forward(self, inputs: Tensor) -> Tensor:
        conv = self.conv
        weight, pads = conv.weight, conv.padding
        if isinstance(conv, PadByKernel):
            weight, pads = conv.weight_and_pads(inputs)
        sizes = (list(pads), list(conv.stride), list(conv.dilation), conv.groups)
        name, values = self.limits
        step = torch.ops.mkldnn._convolution_pointwise
        return step(inputs, weight, conv.bias, *sizes, name, values, "")


def fuse(conv: nn.Conv2d, after: nn.Module) -> nn.Module | None:
    """Return a convolution that includes the modules after it, or None if it cannot.

    after: what nothing but the convolution's output goes through, such as Sequential(Identity,
    ReLU6).
    """
    limits = limits_of(after)
    pads = isinstance(conv, PadByKernel) or (
        type(conv) is nn.Conv2d and not isinstance(conv.padding, str)
    )
    plain = conv.weight.device.type == "cpu" and conv.weight.dtype == torch.float32
    zeros = conv.padding_mode == "zeros" and conv.dilation == (1, 1)
    there = torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_convolution_pointwise"
    )
    if not (limits and pads and plain and zeros and there):
        return None
    return FusedConv(conv, limits)


def limits_of(after: nn.Module) -> tuple[str, list[float]] | None:
    """Return oneDNN's name of an activation, and its values; None if it is not ReLU or ReLU6."""
    steps: list[Any] = [each for each in after.children() if not isinstance(each, nn.Identity)]
    if len(steps) == 1 and type(steps[0]) is nn.ReLU:
        return "relu", []
    if len(steps) == 1 and type(steps[0]) is nn.ReLU6:
        return "hardtanh", [0.0, 6.0]
    return None
