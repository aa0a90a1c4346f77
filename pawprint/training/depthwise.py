"""Large kernels of depthwise convolutions, and how they learn on a CPU.

oneDNN computes the gradient of a depthwise kernel of 3 x 3 fast, and that of a larger one about ten
times slower: in EfficientNet-Lite0 three such kernels took a fifth of a training step. Its forward
pass is fast for every size. The gradient is one: the inputs of each picture, convolved with the
gradient of its outputs.
Source: Goodfellow, "Efficient per-example gradient computations", arXiv:1510.01799, applied to
convolutions by Rochette et al., arXiv:1912.06015.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FAST = 3  # side of a kernel from which oneDNN is fast by itself


class DepthwiseConv(torch.autograd.Function):
    """conv2d with a kernel of its own for each channel."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        pads: tuple[int, int],
    ) -> Tensor:
        """Return the outputs (N, C, h, w) for inputs (N, C, H, W) and a weight (C, 1, k, l)."""
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.pads = stride, pads
        return F.conv2d(inputs, weight, bias, stride, pads, (1, 1), len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of inputs, weight and bias."""
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        of_inputs = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            ways = (ctx.stride, ctx.pads, (1, 1), False, (0, 0), len(weight), (True, False, False))
            step = torch.ops.aten.convolution_backward
            of_inputs, _, _ = step(gradient, inputs, weight, None, *ways)
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(inputs, gradient, weight.shape[2:], ctx.stride, ctx.pads)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=(0, 2, 3))
        return of_inputs, of_weight, of_bias, None, None


def weight_gradient(
    inputs: Tensor,
    gradient: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int],
) -> Tensor:
    """Return the gradient of a depthwise kernel, (C, 1, k, l).

    inputs: (N, C, H, W); gradient: of the outputs, (N, C, h, w). kernel: k and l.
    """
    n, channels, height, width = inputs.shape
    # every channel of every picture is one of a single picture
    side_by_side = inputs.permute(2, 3, 0, 1).reshape(1, height, width, n * channels)
    kernels = gradient.reshape(n * channels, 1, *gradient.shape[2:])
    ways = ((1, 1), pads, stride, n * channels)
    found = F.conv2d(side_by_side.permute(0, 3, 1, 2), kernels, None, *ways)
    found = found[:, :, : kernel[0], : kernel[1]]  # a stride may leave more than it reads
    return found.reshape(n, channels, 1, *kernel).sum(dim=0)


def is_plain(conv: nn.Conv2d) -> bool:
    """Return whether a convolution pads by numbers of zeros, and its kernel has no gaps."""
    zeros = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return zeros and conv.dilation == (1, 1)


def learns_slowly(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is plain and depthwise, with a large kernel."""
    depthwise = conv.groups == conv.in_channels == conv.out_channels
    return depthwise and is_plain(conv) and max(conv.kernel_size) > FAST


def convolve(conv: nn.Conv2d, inputs: Tensor, weight: Tensor, pads: tuple[int, int]) -> Tensor:
    """Return what a convolution gives for inputs (N, C, H, W), padded alike on both sides.

    weight: its kernel, or a padded one.
    """
    learns = torch.is_grad_enabled() and weight.requires_grad and learns_slowly(conv)
    exact = inputs.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if learns and exact and inputs.device.type == "cpu":
        found: Tensor = DepthwiseConv.apply(inputs, weight, conv.bias, conv.stride, pads)
        return found
    return F.conv2d(inputs, weight, conv.bias, conv.stride, pads, (1, 1), conv.groups)


class LargeKernel(nn.Conv2d):
    """A plain depthwise convolution with a large kernel."""

    def forward(self, input: Tensor) -> Tensor:
        pads: Any = self.padding
        return convolve(self, input, self.weight, pads)


def learn_fast(model: nn.Module) -> nn.Module:
    """Let the large depthwise kernels of a model learn fast on a CPU, in place; return it."""
    for module in model.modules():
        if type(module) is nn.Conv2d and learns_slowly(module):
            module.__class__ = LargeKernel
    return model
