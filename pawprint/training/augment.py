"""Random views of a batch of pictures, which interpolate every pixel once.

fast.ai calls this presizing (Howard and Gugger, "Deep Learning for Coders", chapter 5): pictures
are kept larger than the model's input; crop, flip, rotation, zoom and perspective are composed into
one map, and the large picture is interpolated once.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pawprint.training.recipe import AugmentParams


def augment(
    pictures: Tensor, size: int, params: AugmentParams, generator: torch.Generator
) -> Tensor:
    """Return random views of pictures, floats 0 to 1 (N, size, size, 3), on the pictures' device.

    pictures: uint8 (N, P, P, 3). generator: on the CPU, so that all devices draw the same views.
    """
    n, device = len(pictures), pictures.device

    # where each pixel of a view lies in its picture
    matrix = geometry(n, params, generator).to(device)
    line = (torch.arange(size, device=device) * 2 + 1) / size - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    pixels = torch.stack((x, y, torch.ones_like(x)), dim=-1).reshape(1, -1, 3)
    points = pixels @ matrix.transpose(1, 2)
    grid = (points[..., :2] / points[..., 2:]).reshape(n, size, size, 2)

    # one interpolation
    values = pictures.permute(0, 3, 1, 2).float().div_(255)
    views = F.grid_sample(
        values, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )

    # contrast and brightness
    changes = lighting(n, params, generator)
    gain, shift = (change.to(device)[:, None, None, None] for change in changes)
    views.sub_(0.5).mul_(gain).add_(0.5).add_(shift).clamp_(0, 1)
    return views.permute(0, 2, 3, 1)


def geometry(n: int, params: AugmentParams, generator: torch.Generator) -> Tensor:
    """Return homographies (n, 3, 3) from the view's coordinates, -1 to 1, to the picture's.

    The crop is torchvision's RandomResizedCrop: a share of the area from `min_scale` to 1 at an
    aspect of 3/4 to 4/3. Rotation (degrees), zoom and warp (tilt) are each applied to three views
    in four, as in fast.ai's aug_transforms; `mult` scales rotation, warp and lighting, as there.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    def sometimes(value: Tensor) -> Tensor:
        return value * (torch.rand(n, generator=generator) < 0.75)

    area = uniform(params.min_scale, 1)
    aspect = torch.exp(uniform(math.log(3 / 4), math.log(4 / 3)) * (params.min_scale < 1) / 2)
    width, height = (area.sqrt() * aspect).clamp(max=1), (area.sqrt() / aspect).clamp(max=1)
    zoom = 1 + sometimes(uniform(0, params.zoom - 1))
    width, height = width / zoom, height / zoom
    left, top = (1 - width) * uniform(-1, 1), (1 - height) * uniform(-1, 1)
    flip = torch.where(torch.rand(n, generator=generator) < params.flip, -1.0, 1.0)
    angle = sometimes(uniform(-params.rotate, params.rotate)) * params.mult * math.pi / 180
    tilt_x, tilt_y = (sometimes(uniform(-params.warp, params.warp)) * params.mult for _ in range(2))
    zero, one = torch.zeros(n), torch.ones(n)
    crop = _matrix((width * flip, zero, left), (zero, height, top), (zero, zero, one))
    turn = _matrix(
        (angle.cos(), -angle.sin(), zero), (angle.sin(), angle.cos(), zero), (zero, zero, one)
    )
    warp = _matrix((one, zero, zero), (zero, one, zero), (tilt_x / 2, tilt_y / 2, one))
    return crop @ turn @ warp


def lighting(n: int, params: AugmentParams, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return contrast (a gain about middle grey) and brightness (a shift), (n,) each."""
    drawn = torch.rand(3, n, generator=generator)
    change = (drawn[:2] * 2 - 1) * (params.lighting * params.mult) * (drawn[2] < 0.75)
    return 1 + change[0], change[1] / 2


def _matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
