"""Where the model looked: class activation maps, exact and almost free.

If a head is linear on feature maps that were pooled by their mean, a logit is the mean, over the
positions of the maps, of what each position adds to it, plus a bias that no position changes. The
maps of these shares are what is shown. Source: Zhou et al., "Learning deep features for
discriminative localization", arXiv:1512.04150.

A layer norm between pooling and head divides all positions by one number, so the shares of a
picture still add up. Where a hidden layer follows the pooling (MobileNetV3), or a class token
answers (ViT), no position has a share of its own, and there are no maps.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pawprint.training.model import Head, normalise
from pawprint.training.stored import ModelConfig

EXACT = 1e-4  # how far the mean of the positions may be from what the head sees, of its largest
NO_MAPS = (
    "has no linear head on pooled feature maps, so no map of where it looked is exact: only the "
    "most similar training pictures are given"
)
LAYOUTS = ("channels first", "channels last", "tokens")


class Positions(nn.Module):
    """From a model's last feature maps to what the head sees at each position, (N, h, w, F).

    Its mean over the positions is what the head sees of the picture. layout: of the maps, one of
    LAYOUTS; norm: the layer norm between pooling and head, if there is one.
    """

    def __init__(self, layout: str, norm: nn.LayerNorm | None) -> None:
        super().__init__()
        self.layout, self.norm = layout, norm

    def forward(self, maps: Tensor) -> Tensor:
        if self.layout == "channels first":
            maps = maps.permute(0, 2, 3, 1)
        elif self.layout == "tokens":
            side = round(int(maps.shape[1]) ** 0.5)
            maps = maps.reshape(-1, side, side, int(maps.shape[2]))
        if self.norm is None:
            return maps
        # the mean of each position goes, and the spread of the pooled picture divides them all
        pooled = maps.mean(dim=(1, 2), keepdim=True)
        spread = (pooled.var(dim=3, keepdim=True, correction=0) + self.norm.eps).sqrt()
        located = (maps - maps.mean(dim=3, keepdim=True)) / spread
        return located if self.norm.weight is None else located * self.norm.weight


class Maps(nn.Module):
    """From a model's last feature maps to what each position adds to each logit.

    These are (N, classes, h, w). The mean over the positions, plus `bias` (classes,), is the logit.
    The bias is what the head says of feature maps of zeros.
    """

    bias: Tensor

    def __init__(self, head: Head, positions: Positions, bias: Tensor) -> None:
        super().__init__()
        self.head, self.positions = head, positions
        self.register_buffer("bias", bias)
        nothing = torch.zeros(1, head.in_features, device=bias.device)
        with torch.no_grad():
            self.register_buffer("nothing", head(nothing)[0])

    def forward(self, maps: Tensor) -> Tensor:
        located = self.positions(maps)
        height, width, count = (int(size) for size in located.shape[1:])
        shares = self.head(located.reshape(-1, count)) - self.nothing
        return shares.reshape(-1, height, width, self.head.out_features).permute(0, 3, 1, 2)


@torch.no_grad()
def find_maps(model: nn.Module, config: ModelConfig) -> Maps | None:
    """Return what gives the maps of a model, None if it has no exact ones.

    Tried on two pictures of noise: the mean of the positions must be what the head sees.
    """
    timm_model: Any = model
    generator = torch.Generator().manual_seed(0)
    shape = (2, config.size, config.size, 3)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    maps = timm_model.forward_features(normalise(noise, config))
    if not isinstance(maps, Tensor):
        return None
    head = Head(model)
    zeros = torch.zeros_like(maps)
    bias = timm_model.forward_head(zeros)[0]
    seen, offset = (timm_model.forward_head(each, pre_logits=True) for each in (maps, zeros))
    for layout in LAYOUTS:
        if not fits(maps, layout, head.in_features):
            continue
        for norm in (None, norm_of(model)):
            positions = Positions(layout, norm)
            if close(positions(maps).mean(dim=(1, 2)) + offset, seen):
                return Maps(head, positions, bias)
    return None


def fits(maps: Tensor, layout: str, features: int) -> bool:
    """Return whether maps can have a layout with so many features at each position."""
    if layout == "tokens":
        return (
            maps.ndim == 3
            and maps.shape[2] == features
            and round(maps.shape[1] ** 0.5) ** 2 == maps.shape[1]
        )
    return maps.ndim == 4 and maps.shape[1 if layout == "channels first" else 3] == features


def norm_of(model: nn.Module) -> nn.LayerNorm | None:
    """Return the layer norm that timm puts between pooling and head, if there is one."""
    norm = getattr(getattr(model, "head", None), "norm", None)
    return norm if isinstance(norm, nn.LayerNorm) else None


def close(found: Tensor, expected: Tensor) -> bool:
    """Return whether two tensors are equal but for rounding."""
    largest = expected.abs().max().clamp(min=1e-12)
    return bool((found - expected).abs().max() <= EXACT * largest)
