"""Large depthwise kernels have the gradients that torch gives them, computed another way."""

import pytest
import torch
from torch import nn

from pawprint.training.depthwise import FAST, DepthwiseConv, LargeKernel, learn_fast
from pawprint.training.padding import Conv2dSame, pad_by_kernel


def gradients(conv: nn.Conv2d, inputs: torch.Tensor) -> tuple[list[torch.Tensor], bool]:
    """Return answer and gradients, and whether they were computed our way."""
    inputs = inputs.clone().requires_grad_()
    conv.zero_grad()
    answer = conv(inputs)
    answer.square().sum().backward()
    ours = type(answer.grad_fn).__name__ == f"{DepthwiseConv.__name__}Backward"
    learnt = [parameter.grad.clone() for parameter in conv.parameters()]
    return [answer.detach(), inputs.grad, *learnt], ours


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((5, 5), 5, 1, 2),
        ((9, 8), 5, 2, 2),
        ((14, 14), 6, 2, 2),
        ((7, 9), 7, 3, 3),
        ((6, 7), (3, 5), (1, 2), (1, 2)),
        ((8, 8), 4, 1, 0),
    ],
)
def test_a_plain_kernel(size, kernel, stride, padding, bias, memory_format):
    torch.manual_seed(0)
    options = {"stride": stride, "padding": padding, "groups": 6, "bias": bias}
    conv = nn.Conv2d(6, 6, kernel, **options)
    inputs = torch.rand(3, 6, *size).contiguous(memory_format=memory_format)
    wanted, before = gradients(conv, inputs)
    assert isinstance(learn_fast(conv), LargeKernel)
    found, after = gradients(conv, inputs)
    assert (before, after) == (False, True)
    for one, other in zip(wanted, found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(9, 5, 2), (14, 5, 2), (7, 5, 1), (8, 3, 2)]
)
def test_a_kernel_that_pads_as_same(size, kernel, stride):
    torch.manual_seed(0)
    conv = Conv2dSame(4, 4, kernel, stride, groups=4)
    inputs = torch.rand(2, 4, size, size)
    wanted, _ = gradients(conv, inputs)
    found, ours = gradients(pad_by_kernel(conv), inputs)
    assert ours == (kernel > FAST)
    for one, other in zip(wanted, found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 1},
        {"groups": 3},
        {"groups": 6, "kernel_size": 3},
        {"groups": 6, "dilation": 2},
        {"groups": 6, "padding": "same"},
        {"groups": 6, "padding": 2, "padding_mode": "reflect"},
    ],
)
def test_other_convolutions_are_left_alone(options):
    conv = nn.Conv2d(6, 6, **{"kernel_size": 5, **options})
    assert type(learn_fast(conv)) is nn.Conv2d


def test_in_another_precision_torch_computes_them():
    conv = learn_fast(nn.Conv2d(6, 6, 5, padding=2, groups=6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not gradients(conv, torch.rand(2, 6, 7, 7))[1]
    assert not gradients(conv.double(), torch.rand(2, 6, 7, 7, dtype=torch.float64))[1]
