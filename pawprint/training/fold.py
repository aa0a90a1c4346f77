"""Batch-norm whose statistics stand still, folded into the convolution before it: the same function in fewer steps.

With running mean m and deviation s, gamma (w * x - m) / s + beta is a convolution with the weights w gamma / s and the
bias beta - m gamma / s. Gradients reach w, gamma and beta through these few numbers instead of through every pixel,
and what batch-norm would keep for them need not be kept: docs/training.md has the memory that this saves.
Source: Jacob et al., arXiv:1712.05877, section 3.2.
"""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm


class ConvNorm(nn.Module):
    """A convolution and the batch-norm after it, as one convolution."""

    def __init__(self, conv: nn.Conv2d, norm: _BatchNorm) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm
        if conv.bias is None:  # a place for functional_call to put one
            del conv._parameters["bias"]
            conv.register_buffer("bias", conv.weight.new_zeros(len(conv.weight)), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = self.conv.weight * scale[:, None, None, None]
        bias = norm.bias + (self.conv.bias - norm.running_mean) * scale
        return functional_call(self.conv, {"weight": weight, "bias": bias}, (inputs,))


def fold(model: nn.Module, size: int) -> nn.Module:
    """A model that shares all parameters and statistics with `model`, with batch-norm folded where that can be done.

    size: of an input side to try it with. It must not be used while running statistics are to be learnt. `model` itself
    comes back where there is nothing to fold, or where folding would change the answers by more than rounding.
    """
    generator = torch.Generator().manual_seed(0)
    trial, probe = (
        copy.deepcopy(model).cpu().float().eval(),
        torch.rand(1, 3, size, size, generator=generator),
    )
    with torch.no_grad():
        for parameter in trial.parameters():
            if (
                not parameter.any()
            ):  # zeros, as of a new head, would hide all that comes before them
                parameter.normal_(0, 0.1, generator=generator)
        found, before = pairs(trial, probe)
        after = merge(trial, found)(probe)
    same = (
        after - before
    ).abs().max() <= 1e-3 * before.abs().max()  # not so where either is no number
    if not found or not same:
        return model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return merge(copy.deepcopy(model, shared), found)


def merge(model: nn.Module, found: list[tuple[str, str]]) -> nn.Module:
    """`model` with the named convolutions and batch-norms made one, in place."""
    for conv_name, norm_name in found:
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        put(model, conv_name, ConvNorm(conv, norm))
        # what timm's batch-norm layers do after the norm itself; plain ones do nothing more
        after = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
        put(model, norm_name, nn.Sequential(*after))
    return model


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace the submodule of that name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def pairs(model: nn.Module, probe: Tensor) -> tuple[list[tuple[str, str]], Tensor]:
    """Names of convolutions and of the batch-norms that read their outputs, and the model's answer to `probe`."""
    made: dict[int, tuple[str, Tensor]] = {}
    found, hooks = [], []

    def remember(name: str, output: Tensor) -> None:
        made[id(output)] = (name, output)  # kept, so that no other tensor gets its id

    def match(name: str, read: Tensor) -> None:
        if id(read) in made:
            found.append((made[id(read)][0], name))

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(
                module.register_forward_hook(
                    lambda _, __, output, name=name: remember(name, output)
                )
            )
        elif isinstance(module, _BatchNorm) and module.affine and module.track_running_stats:
            hooks.append(
                module.register_forward_pre_hook(
                    lambda _, inputs, name=name: match(name, inputs[0])
                )
            )
    answer = model(probe)
    for hook in hooks:
        hook.remove()
    return found, answer
