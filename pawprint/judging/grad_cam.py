"""Where the model looked: Grad-CAM.

The last feature maps are weighted by the mean gradient of the predicted class's logit; what is
below zero is cut off (Selvaraju et al., arXiv:1610.02391).
"""

from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import nn

from pawprint.pictures.batches import Pictures
from pawprint.training.model import normalise
from pawprint.training.stored import ModelConfig


def grad_cam(
    model: nn.Module,
    pictures: Pictures,
    targets: list[int],
    config: ModelConfig,
    device: torch.device,
) -> np.ndarray:
    """Return where the model looked, (N, h, w) from 0 to 1.

    pictures: uint8 (N, S, S, 3); targets: a class index for each. All zero if the model has no
    feature maps of four dimensions, like a vision transformer.
    """
    maps = []
    timm_model: Any = model.to(device).eval()
    for batch, wanted in zip(pictures.split(8), torch.tensor(targets).split(8), strict=True):
        seen = timm_model.forward_features(normalise(batch.to(device), config))
        if seen.ndim != 4:
            return np.zeros((len(pictures), 1, 1))
        logits = timm_model.forward_head(seen).gather(1, wanted[:, None].to(device))
        gradient = torch.autograd.grad(logits.sum(), seen)[0]
        heat = (gradient.mean(dim=(2, 3), keepdim=True) * seen).sum(dim=1).relu()
        highest = heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        maps.append((heat / highest).detach().cpu())
    return torch.cat(maps).numpy()


def overlay(picture: np.ndarray, heat: np.ndarray, side: int) -> Image.Image:
    """Lay heat (h, w) over a picture (S, S, 3), `side` pixels a side: cold dark, hot coloured."""
    size = (side, side)
    small = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    image = np.asarray(small, dtype=np.float64)
    map_ = Image.fromarray((heat * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    level = np.asarray(map_) / 255
    colour = matplotlib.colormaps["inferno"](level)[..., :3] * 255
    share = 0.25 + 0.4 * level[..., None]
    return Image.fromarray((image * (1 - share) + colour * share).astype(np.uint8))
