"""Decoding a picture file whole: first frame, upright, RGB on white, scaled as verify.resize says.

A picture is decoded to its last byte: a header says nothing about a download that was cut short.
A file's name does not matter, only its content. Large JPEGs are decoded at a half, a quarter or an
eighth of their size if that is still at least the size wanted (libjpeg's scaled inverse DCT,
Pillow's `draft`). All their bytes are read even so.
"""

import math
import warnings
from pathlib import Path
from typing import Literal

from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from pydantic import Field

from pawprint.params import Params
from pawprint.pictures.formats import FORMATS

# Sharper than bilinear at the same cost, and half the cost of Lanczos. It only scales down.
FILTER = Image.Resampling.HAMMING


class VerifyParams(Params):
    """The section `verify` of params.yaml."""

    resize: Literal["shrink", "crop", "pad", "squish"] = "shrink"
    max_size: int = Field(ge=32, le=4096)
    min_size: int = Field(ge=1, le=1024)
    quality: int = Field(ge=50, le=100)
    max_pixels: int = Field(ge=1_000_000)


class Rejected(Exception):
    """Why a picture is refused: a reason to count by, and a detail to read."""


def decode(path: Path, params: VerifyParams) -> tuple[Image.Image, tuple[int, int]]:
    """Decode a whole picture; return it and the size it has at full scale.

    Raises Rejected: `empty`, `not a picture`, `too large`, `broken`, `too small`.
    """
    try:
        if path.stat().st_size == 0:
            raise Rejected("empty", "the file has 0 bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(path, params)
    except UnidentifiedImageError:
        raise Rejected("not a picture", f"begins with {path.open('rb').read(16)!r}") from None
    except Rejected:
        raise
    except Exception as error:  # on a broken file, decoders raise OSError, SyntaxError and others
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        raise Rejected("broken", detail) from None


def read(path: Path, params: VerifyParams) -> tuple[Image.Image, tuple[int, int]]:
    """Do what `decode` does, without explaining what a decoder raises."""
    Image.MAX_IMAGE_PIXELS = None  # the size is checked here, with a reason that names the param
    with Image.open(path, formats=FORMATS) as image:
        size = image.size
        if image.width * image.height > params.max_pixels:
            raise Rejected(
                "too large",
                f"{image.width} x {image.height}; verify.max_pixels is {params.max_pixels}",
            )
        # Pillow refuses twice as many pixels: this bounds pictures inside icons
        Image.MAX_IMAGE_PIXELS = params.max_pixels // 2
        image.draft("RGB", size_to_decode(size, params))
        image.load()
        lying = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        upright: Image.Image = image
        if ExifTags.Base.Orientation in image.getexif():
            upright = ImageOps.exif_transpose(image)
        rgb = to_rgb(upright)
    if min(size) < params.min_size:
        raise Rejected("too small", f"{size[0]} x {size[1]}; verify.min_size is {params.min_size}")
    return rgb, size[::-1] if lying else size


def size_to_decode(size: tuple[int, int], params: VerifyParams) -> tuple[int, int]:
    """Return how large a picture of this size must be decoded so that nothing is scaled up."""
    side = max(size) if params.resize in ("shrink", "pad") else min(size)
    scale = min(1.0, params.max_size / side)
    return max(1, math.ceil(size[0] * scale)), max(1, math.ceil(size[1] * scale))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB. Transparency is laid on white; 16 bits and floats become 8 bits."""
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        return to_eight_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # it returns None only if told to work in place
        return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Convert a grey picture of 16 or 32 bits or floats to 8 bits.

    65535 counts as white for integers, 1 for floats up to 1, otherwise the brightest float.
    """
    _, high = image.getextrema()
    white = 255.0
    if image.mode.startswith("I;16") or (image.mode == "I" and high > 255):
        white = 65535.0
    elif image.mode == "F" and not 1 < high <= 255:
        white = float(high) if high > 255 else 1.0
    return image.convert("F").point(lambda value: value * (255 / white)).convert("L")


def resize(image: Image.Image, full: tuple[int, int], params: VerifyParams) -> Image.Image:
    """Scale down as `verify.resize` says. Only `squish` may stretch the shorter side.

    full: the picture's own size; `image` may be a smaller rendering with rounded sides.
    shrink keeps the whole picture, its longer side at most `max_size`. The others give squares:
    crop takes the middle, pad lays the whole picture on black, squish ignores its proportions.
    """
    if params.resize == "crop":
        side = min(params.max_size, *full)
        return ImageOps.fit(image, (side, side), FILTER)
    side = min(params.max_size, max(full))
    scale = side / max(full)
    size = (max(1, round(full[0] * scale)), max(1, round(full[1] * scale)))
    size = (side, side) if params.resize == "squish" else size
    if size != image.size:
        image = image.resize(size, FILTER, reducing_gap=2.0)
    if params.resize == "pad":
        square = Image.new("RGB", (side, side))
        square.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
        return square
    return image
