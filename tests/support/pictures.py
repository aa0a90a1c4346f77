"""Pictures with a fault, and without."""

import numpy as np
from PIL import Image, ImageFilter


def noise(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A sharp picture with colours, light and dark parts, that no other seed gives."""
    blocks = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


def dark(seed: int) -> Image.Image:
    return noise(seed).point(lambda value: value // 5)


def light(seed: int) -> Image.Image:
    return noise(seed).point(lambda value: 250 + value // 60)


def blurred(seed: int) -> Image.Image:
    return noise(seed).filter(ImageFilter.GaussianBlur(15))


def one_colour(seed: int) -> Image.Image:
    return Image.new("RGB", (160, 120), (200, 90 + seed % 100, 60))
