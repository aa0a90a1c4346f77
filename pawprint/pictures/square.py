"""Making a picture square. The stage export copies this file beside the model."""

from PIL import Image

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def to_square(image: Image.Image, size: int, resize: str, interpolation: str) -> Image.Image:
    """Make a picture (size, size): `squish` both sides, `crop` the middle, or `pad` with black."""
    how = FILTERS[interpolation]
    width, height = image.size
    if resize == "squish":
        return image.resize((size, size), how)
    if resize == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize((size, size), how, box=(left, top, left + side, top + side))
    scale = size / max(width, height)
    small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), how)
    square = Image.new("RGB", (size, size))
    square.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return square
