"""A picture becomes square in three ways."""

import pytest
from PIL import Image

from pawprint.pictures.square import to_square


@pytest.mark.parametrize(("resize", "corner"), [("squish", 255), ("crop", 255), ("pad", 0)])
def test_a_picture_becomes_square(resize, corner):
    square = to_square(Image.new("RGB", (60, 20), "white"), 30, resize, "bicubic")
    assert square.size == (30, 30)
    assert square.getpixel((0, 0)) == (corner,) * 3
    assert square.getpixel((15, 15)) == (255, 255, 255)
