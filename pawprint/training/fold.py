"""Batch-norm that keeps its statistics, folded into the convolution before it.

The function is the same, in fewer steps. With running mean m and deviation s, gamma (w * x - m) / s
+ beta is a convolution with the weights w gamma / s and the bias beta - m gamma / s. Gradients
reach w, gamma and beta through these few numbers instead of through every pixel, and what
batch-norm would store for them is not stored: docs/training.md has the memory that this saves.
Source: Jacob et al., arXiv:1712.05877, section 3.2.
"""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from pawprint.training.depthwise import learn_fast
from pawprint.training.fused import fuse
from pawprint.training.padding import pad_by_kernel


class ConvNorm(nn.Module):
    """A convolution and the batch-norm after it, as one convolution."""

    def __init__(self, conv: nn.Conv2d, norm: _BatchNorm) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm
        if conv.bias is None:  # functional_call replaces a bias, but does not add one
            del conv._parameters["bias"]
            conv.register_buffer("bias", conv.weight.new_zeros(len(conv.weight)), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        weight, bias = self.folded()
        return functional_call(self.conv, {"weight": weight, "bias": bias}, (inputs,))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the one convolution."""
        norm, conv = self.norm, self.conv
        assert norm.running_mean is not None  # find_pairs takes no others
        assert norm.running_var is not None
        assert conv.bias is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = norm.bias + (conv.bias - norm.running_mean) * scale
        return conv.weight * scale[:, None, None, None], bias

    @torch.no_grad()
    def settled(self) -> nn.Conv2d:
        """Return that convolution as a layer of its own. It learns no more."""
        weight, bias = self.folded()
        conv = copy.deepcopy(self.conv)
        conv._buffers.pop("bias", None)
        conv.weight, conv.bias = (
            nn.Parameter(each, requires_grad=False) for each in (weight, bias)
        )
        return conv


def keep_statistics(model: nn.Module) -> None:
    """Put every batch-norm layer into eval mode: it keeps its statistics and learns its weights.

    The running statistics come from a million pictures; those of a few small batches are noise,
    and the model is asked about pictures one at a time. They can also be folded into the
    convolutions. docs/training.md has the comparison.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


Pairs = list[tuple[str, str]]  # names of convolutions and of the batch-norms after them


def fold(model: nn.Module, size: int, pairs: Pairs | None = None) -> nn.Module:
    """Return a model with batch-norm folded; it shares all parameters and statistics with `model`.

    Its convolutions also pad without copying what they read (pawprint/training/padding.py).
    size: side of a picture to try it with. pairs: what `try_folding` found, if it is known. Do not
    use it while running statistics are learnt. Return `model` itself if there is nothing to fold,
    or if folding would change the answers by more than rounding.
    """
    if pairs is None:
        pairs, _ = try_folding(model, size)
    if not pairs:
        return model
    # the same on a copy that shares every tensor
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return learn_fast(pad_by_kernel(merge(copy.deepcopy(model, shared), pairs)))


@torch.no_grad()
def settle(model: nn.Module, size: int, pairs: Pairs | None = None) -> nn.Module:
    """Return a copy of a model that answers faster, and learns no more.

    Batch-norm is folded for good, and activations are part of the convolutions before them where
    torch can do that. The answers are the same to rounding. size, pairs: as for `fold`.
    """
    settled = None
    if pairs is None:
        pairs, settled = try_folding(model, size)
    if settled is None:
        settled = pad_by_kernel(merge(copy.deepcopy(model).eval(), pairs))
    for conv_name, norm_name in pairs:
        merged = settled.get_submodule(conv_name)
        assert isinstance(merged, ConvNorm)
        after = settled.get_submodule(norm_name)
        assert isinstance(after, nn.Sequential)
        conv, left = fuse(merged.settled(), after)
        replace(settled, conv_name, conv)
        replace(settled, norm_name, left)
    return settled


@torch.no_grad()
def try_folding(model: nn.Module, size: int) -> tuple[Pairs, nn.Module | None]:
    """Return the names of convolutions and batch-norms that can become one, and a folded copy.

    There are no names if the answers would change by more than rounding. The copy is None if it
    differs from `model` in anything else. size: as for `fold`.
    """
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return [], None

    # a copy to try it with, without zeros: those of a new head would hide all that comes before
    generator = torch.Generator().manual_seed(0)
    trial = copy.deepcopy(model).cpu().float().eval()
    probe = torch.rand(1, 3, size, size, generator=generator)
    zeros = [parameter for parameter in trial.parameters() if not parameter.any()]
    for parameter in zeros:
        parameter.normal_(0, 0.1, generator=generator)

    # which batch-norm reads which convolution, and whether the answers stay
    pairs, before = find_pairs(trial, probe)
    after = pad_by_kernel(merge(trial, pairs))(probe)
    same = (after - before).abs().max() <= 1e-3 * before.abs().max()  # False if there is a NaN
    if not same:
        return [], None
    kinds = {(tensor.device.type, tensor.dtype) for tensor in model.parameters()}
    unlike = zeros or kinds != {("cpu", torch.float32)}
    return pairs, None if unlike else trial


def find_pairs(model: nn.Module, probe: Tensor) -> tuple[Pairs, Tensor]:
    """Return the names of convolutions and of the batch-norms that read their outputs.

    Also return the model's answer to `probe`, inputs (1, 3, H, W).
    """
    outputs: dict[int, tuple[str, Tensor]] = {}
    pairs: Pairs = []
    hooks = []

    def remember(conv: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        outputs[id(output)] = (names[conv], output)  # kept, so that no other tensor gets its id

    def match(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        if id(inputs[0]) in outputs:
            pairs.append((outputs[id(inputs[0])][0], names[norm]))

    names = {module: name for name, module in model.named_modules()}
    for module in names:
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(remember))
        elif isinstance(module, _BatchNorm) and module.affine and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(match))
    answer = model(probe)
    for hook in hooks:
        hook.remove()
    return pairs, answer


def merge(model: nn.Module, pairs: Pairs) -> nn.Module:
    """Make the named convolutions and batch-norms one, in place; return the model."""
    for conv_name, norm_name in pairs:
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, _BatchNorm)
        replace(model, conv_name, ConvNorm(conv, norm))
        # what timm's batch-norm layers do after the norm itself; plain ones do nothing more
        after = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
        replace(model, norm_name, nn.Sequential(*after))
    return model


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace the submodule of that name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
