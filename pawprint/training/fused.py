"""Convolutions that learn no more, as oneDNN computes them fastest.

By itself, an activation reads and writes all that the convolution has just written: on a CPU that
takes a sixth of a forward pass. So a convolution and the ReLU6 after it are one step here. And
torch lays a kernel out anew in every call: here that is done once for inputs of one shape, which
saves a tenth of what is left. The numbers are the same to rounding. The operations are those that
torch's own compiler uses on a CPU; where torch lacks them, nothing is fused. Nor is it where a
weight is NaN or infinite: the fused step makes NaN a zero, and the answers would not show the
damage.
"""

import torch
from torch import Tensor, nn

from pawprint.training.depthwise import is_plain
from pawprint.training.padding import PadByKernel

After = tuple[str, list[float], str]  # what follows in the same step, as oneDNN calls it

NOTHING: After = ("none", [], "")
RELU6: After = ("hardtanh", [0.0, 6.0], "")
STEPS = ("_convolution_pointwise", "_reorder_convolution_weight")


class FusedConv(nn.Module):
    """A convolution with its activation, if any, for float32 on a CPU. It learns no more."""

    def __init__(self, conv: nn.Conv2d, relu6: bool) -> None:
        super().__init__()
        self.conv, self.after = conv, RELU6 if relu6 else NOTHING
        self.shape = torch.Size()  # of the inputs for which the next two are made
        self.kernel, self.ways = torch.empty(0), ([0], [0], [0], 0)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.shape != self.shape:
            self._lay_out(inputs)
        step = torch.ops.mkldnn._convolution_pointwise
        return step(inputs, self.kernel, self.conv.bias, *self.ways, *self.after)

    def _lay_out(self, inputs: Tensor) -> None:
        """Lay the kernel out for inputs like these."""
        conv = self.conv
        weight, pads = conv.weight, conv.padding
        if isinstance(conv, PadByKernel):
            weight, pads = conv.weight_and_pads(inputs)
        assert not isinstance(pads, str)  # fuse takes no such convolution
        self.ways = (list(pads), list(conv.stride), list(conv.dilation), conv.groups)
        order = torch.ops.mkldnn._reorder_convolution_weight
        self.kernel, self.shape = order(weight, *self.ways, list(inputs.shape)), inputs.shape


def fuse(conv: nn.Conv2d, after: nn.Sequential) -> tuple[nn.Module, nn.Module]:
    """Return a faster convolution, and what is left to do after it.

    after: what nothing but the convolution's output goes through, such as Identity and ReLU6. Both
    come back as they are where oneDNN cannot do better.
    """
    known = type(conv) in (nn.Conv2d, PadByKernel) and is_plain(conv)
    there = all(hasattr(torch.ops.mkldnn, name) for name in STEPS)
    if not (known and there and torch.backends.mkldnn.is_available()):
        return conv, after
    weights = [each for each in (conv.weight, conv.bias) if each is not None]
    usual = all(each.dtype == torch.float32 and each.device.type == "cpu" for each in weights)
    if not (usual and all(each.isfinite().all() for each in weights)):
        return conv, after
    steps = [each for each in after if not isinstance(each, nn.Identity)]
    relu6 = [type(each) for each in steps] == [nn.ReLU6]
    return FusedConv(conv, relu6), nn.Identity() if relu6 else after
