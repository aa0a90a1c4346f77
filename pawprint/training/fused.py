"""A convolution and the ReLU6 after it in one step of oneDNN.

By itself, an activation reads and writes all that the convolution has just written: on a CPU that
takes a sixth of a forward pass. The numbers are the same to rounding. The operation is the one that
torch's own compiler uses on a CPU; where torch lacks it, nothing is fused. Nor is it where a weight
is NaN or infinite: the fused step makes NaN a zero, and the answers would not show the damage.
"""

import torch
from torch import Tensor, nn

from pawprint.training.depthwise import is_plain
from pawprint.training.padding import PadByKernel


class FusedConv(nn.Module):
    """A convolution with its activation, for float32 on a CPU. It learns no more."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, inputs: Tensor) -> Tensor:
        conv = self.conv
        weight, pads = conv.weight, conv.padding
        if isinstance(conv, PadByKernel):
            weight, pads = conv.weight_and_pads(inputs)
        sizes = (list(pads), list(conv.stride), list(conv.dilation), conv.groups)
        step = torch.ops.mkldnn._convolution_pointwise
        return step(inputs, weight, conv.bias, *sizes, "hardtanh", [0.0, 6.0], "")


def fuse(conv: nn.Conv2d, after: nn.Module) -> nn.Module | None:
    """Return a convolution that includes the modules after it, or None if it cannot.

    after: what nothing but the convolution's output goes through, such as Sequential(Identity,
    ReLU6).
    """
    steps = [each for each in after.children() if not isinstance(each, nn.Identity)]
    relu6 = len(steps) == 1 and type(steps[0]) is nn.ReLU6
    known = type(conv) in (nn.Conv2d, PadByKernel) and is_plain(conv)
    there = torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_convolution_pointwise"
    )
    if not (relu6 and known and there):
        return None
    weights = [each for each in (conv.weight, conv.bias) if each is not None]
    usual = all(each.dtype == torch.float32 and each.device.type == "cpu" for each in weights)
    return FusedConv(conv) if usual and all(each.isfinite().all() for each in weights) else None
