"""The only way a file becomes pixels: first frame, upright, 8-bit sRGB on white, scaled down.

verify, training, predict, serve, review and the exported folder open every picture here, so that
what is served is what was judged. It needs Pillow and numpy, and pi-heif only for HEIC. It imports
its neighbours by relative names: the stage export copies it beside the model.

A picture is decoded to its last byte: a header says nothing about a download that was cut short.
A file's name does not matter, only its content. Large JPEGs are decoded at a half, a quarter or an
eighth of their size if that is still at least the size wanted (libjpeg's scaled inverse DCT,
Pillow's `draft`). All their bytes are read even so. Other large pictures are converted and reduced
strip by strip: beside the decoded picture, memory does not grow with it.
"""

import contextlib
import io
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from .colours import apply_transform, lab_to_srgb, to_srgb
from .formats import FORMATS, brand_of, missing_decoder

# Sharper than bilinear at the same cost, and half the cost of Lanczos. It only scales down.
FILTER = Image.Resampling.HAMMING
GAP = 2.0  # how much larger than wanted a picture is after whole pixels were merged
STRIP = 4_000_000  # pixels that are converted at a time
ORIENTATION, PHOTOMETRIC, BITS, SAMPLE_FORMAT = 0x0112, 262, 258, 339  # tags of EXIF and TIFF
TAGGED_RANGES = ((340, 341), (280, 281))  # lowest and highest value of a TIFF, if it names them
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners store in 16

warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd metadata, which is not used

Range = tuple[float, float]
File = str | Path | io.BytesIO | Image.Image


@dataclass(frozen=True)
class Preparation:
    """How pictures are scaled when they are stored, and what is refused.

    resize: shrink (the whole picture), or a square: crop, pad, squish; max_size: pixels on the
    longer side, 0 to keep the size; min_size, max_pixels: limits; ranges: the lowest and highest
    value of deep pictures by kind (unsigned, signed, float), as `range_of` gives them for a set.
    """

    resize: str = "shrink"
    max_size: int = 0
    min_size: int = 1
    max_pixels: int = 100_000_000
    ranges: Mapping[str, Range] = field(default_factory=dict)


AS_STORED = Preparation()  # for the pictures that verify has stored: nothing is scaled


class Unusable(Exception):
    """Why a file cannot be used as a picture: a reason to count by, and a detail to read.

    Reasons: unreadable, empty, not a picture, too large, too small, broken.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        """Return the reason in a few words."""
        return self.detail if self.reason == "unreadable" else self.reason


def open_picture(file: File, how: Preparation) -> Image.Image:
    """Decode a picture whole and scale it down; return it upright, as RGB.

    Raises Unusable.
    """
    with opened(file, how) as image:
        return prepare(image, how)[0]


@contextlib.contextmanager
def opened(file: File, how: Preparation) -> Iterator[Image.Image]:
    """Open a file for a `with`, whose body asks its header and may `prepare` it.

    Raises Unusable for what is wrong with the file, found here or in the body.
    """
    try:
        if isinstance(file, (str, Path)) and os.path.getsize(file) == 0:
            raise Unusable("empty", "the file has 0 bytes")
        with open_image(file, how) as image:
            yield image
    except Unusable:
        raise
    except UnidentifiedImageError:
        head = first_bytes(file)
        if needed := missing_decoder(head):
            raise Unusable("unreadable", needed) from None
        if brand_of(head):  # its decoder reads the whole table of contents to know the format
            raise Unusable("broken", "its table of contents is damaged or cut short") from None
        raise Unusable("not a picture", f"begins with {head!r}") from None
    except Image.DecompressionBombError:
        raise Unusable("too large", f"more pixels than max_pixels, {how.max_pixels}") from None
    except Exception as error:  # on a broken file, decoders raise OSError, SyntaxError and others
        if isinstance(error, OSError) and error.strerror:  # it is the system that refuses
            raise Unusable("unreadable", error.strerror) from None
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unusable("broken", detail) from None


def open_image(file: File, how: Preparation) -> Image.Image:
    """Read a picture's header. Only FORMATS are tried: others that Pillow knows start programs."""
    Image.MAX_IMAGE_PIXELS = how.max_pixels // 2  # Pillow refuses twice as many, in icons too
    return file if isinstance(file, Image.Image) else Image.open(file, formats=FORMATS)


def first_bytes(file: File) -> bytes:
    """Return the first bytes of a file, to tell people what it is."""
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:16]
    if isinstance(file, Image.Image):
        return b""
    with open(file, "rb") as opened:
        return opened.read(16)


def prepare(image: Image.Image, how: Preparation) -> tuple[Image.Image, tuple[int, int]]:
    """Load an opened picture, convert it to RGB, scale it down and turn it upright.

    Returns the picture, and the width and height that it had before, not turned.
    """
    full = image.size
    if min(full) < how.min_size:
        raise Unusable("too small", f"{full[0]} x {full[1]}; verify.min_size is {how.min_size}")
    if how.max_size:
        image.draft("RGB", size_to_decode(full, how))
    image.load()  # before its metadata are asked for, which hides what is broken
    if image.format == "HEIF":
        full = image.size  # only decoding tells
    turn = TURNS.get(orientation_of(image))
    convert = converter_of(image, how.ranges)
    rgb = scale_down(image, convert, full, how)
    return rgb if turn is None else rgb.transpose(turn), full


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 if there is none that can be read. No other tag is looked at.

    Pillow turns TIFFs itself. HEIF turns by boxes of its own (irot, imir), which its decoder obeys;
    the standard says to ignore the EXIF tag beside them (ISO/IEC 23008-12).
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) or image.format == "HEIF":
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a damaged EXIF raises many kinds; the pixels are sound
        return 1


def size_to_decode(full: tuple[int, int], how: Preparation) -> tuple[int, int]:
    """Return how large a picture of this size must be decoded so that nothing is scaled up."""
    side = max(full) if how.resize in ("shrink", "pad") else min(full)
    scale = min(1.0, how.max_size / side)
    return max(1, math.ceil(full[0] * scale)), max(1, math.ceil(full[1] * scale))


# --- scaling ---


def scale_down(
    image: Image.Image,
    convert: Callable[[Image.Image], Image.Image],
    full: tuple[int, int],
    how: Preparation,
) -> Image.Image:
    """Convert a loaded picture and scale it as `how` says. Only `squish` may stretch a side.

    full: the picture's own size; `image` may be a smaller rendering with rounded sides.
    shrink keeps the whole picture, its longer side at most `max_size`. The others give squares:
    crop takes the middle, pad lays the whole picture on black, squish ignores its proportions.
    """
    if not how.max_size:
        return merge_pixels(image, convert, (1, 1))
    if how.resize == "crop":
        side = min(how.max_size, *full)
        return ImageOps.fit(merge_pixels(image, convert, (1, 1)), (side, side), FILTER)
    side = min(how.max_size, max(full))
    scale = side / max(full)
    size = (max(1, round(full[0] * scale)), max(1, round(full[1] * scale)))
    size = (side, side) if how.resize == "squish" else size

    # merge whole pixels while converting, then filter what is at least GAP times as large
    across = max(1, int(image.width / size[0] / GAP))
    down = max(1, int(image.height / size[1] / GAP))
    rgb = merge_pixels(image, convert, (across, down))
    if size != image.size:
        box = (0.0, 0.0, image.width / across, image.height / down)
        rgb = rgb.resize(size, FILTER, box=box)
    if how.resize == "pad":
        square = Image.new("RGB", (side, side))
        square.paste(rgb, ((side - size[0]) // 2, (side - size[1]) // 2))
        return square
    return rgb


def merge_pixels(
    image: Image.Image,
    convert: Callable[[Image.Image], Image.Image],
    factor: tuple[int, int],
) -> Image.Image:
    """Convert a picture to RGB strip by strip, each block of `factor` pixels merged into one."""
    rows = max(1, STRIP // image.width // factor[1]) * factor[1]
    if rows >= image.height:
        return reduce(convert(image), factor)
    size = (math.ceil(image.width / factor[0]), math.ceil(image.height / factor[1]))
    merged = Image.new("RGB", size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        merged.paste(reduce(convert(strip), factor), (0, top // factor[1]))
    return merged


def reduce(image: Image.Image, factor: tuple[int, int]) -> Image.Image:
    """Merge each block of `factor` pixels into their mean."""
    return image if factor == (1, 1) else image.reduce(factor)


# --- colours ---


def converter_of(
    image: Image.Image, ranges: Mapping[str, Range]
) -> Callable[[Image.Image], Image.Image]:
    """Return what converts the picture, or a strip of it, to RGB in sRGB on white."""
    kind = depth_kind(image)
    profile = image.info.get("icc_profile") or b""
    transform = to_srgb(profile, "L" if kind else image.mode)
    if kind:
        low, high = range_of_picture(image, ranges)
        inverted, unsigned = is_white_zero(image), has_32_unsigned_bits(image)

        def convert_deep(strip: Image.Image) -> Image.Image:
            grey = deep_to_rgb(strip, low, high, inverted, unsigned)
            return grey if transform is None else apply_transform(grey, transform)

        return convert_deep
    if image.mode == "LAB":
        return lambda strip: apply_transform(strip, lab_to_srgb())
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info

    def convert(strip: Image.Image) -> Image.Image:
        if transparent:
            strip = lay_on_white(strip)
        if transform is not None:
            return apply_transform(strip, transform)
        return strip if strip.mode == "RGB" else strip.convert("RGB")

    return convert


def lay_on_white(image: Image.Image) -> Image.Image:
    """Lay a picture with transparency on white; return RGB."""
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


# --- depth ---


def depth_kind(image: Image.Image) -> str:
    """Return unsigned, signed or float for a picture of more than 8 bits, otherwise ""."""
    if image.mode == "F":
        return "float"
    if image.mode == "I" and tag_of(image, SAMPLE_FORMAT) == 2:
        return "signed"
    return "unsigned" if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N") else ""


def tag_of(image: Image.Image, tag: int) -> float | None:
    """Return the number in a TIFF's tag, if there is one."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    value = image.tag_v2.get(tag)
    value = value[0] if isinstance(value, tuple) and value else value
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None


def is_white_zero(image: Image.Image) -> bool:
    """Return whether a deep TIFF stores white as its lowest value."""
    return tag_of(image, PHOTOMETRIC) == 0


def has_32_unsigned_bits(image: Image.Image) -> bool:
    """Return whether a TIFF holds 32 bits without a sign, which Pillow reads as signed."""
    signed = tag_of(image, SAMPLE_FORMAT) == 2
    return image.mode == "I" and tag_of(image, BITS) == 32 and not signed


def values_of(image: Image.Image, unsigned: bool) -> np.ndarray:
    """Return the values of a deep picture, (height, width)."""
    values = np.asarray(image)
    return values.view(np.uint32) if unsigned and values.dtype == np.int32 else values


def range_of_picture(image: Image.Image, ranges: Mapping[str, Range]) -> Range:
    """Return the lowest and highest value that a deep picture may hold.

    Its own tags count first, then what is known about the data set, then its values.
    """
    tagged = tagged_range(image)
    if tagged:
        return tagged
    kind = depth_kind(image)
    if kind in ranges:
        low, high = ranges[kind]
        return low, high
    return range_of(kind, *extrema_of(image))


def tagged_range(image: Image.Image) -> Range | None:
    """Return the range that a TIFF names, if it names one."""
    for lowest, highest in TAGGED_RANGES:
        low, high = tag_of(image, lowest), tag_of(image, highest)
        if low is not None and high is not None and low < high:
            return low, high
    return None


def extrema_of(image: Image.Image) -> Range:
    """Return the lowest and the highest finite value of a loaded deep picture."""
    values = values_of(image, has_32_unsigned_bits(image))
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def range_of(kind: str, low: float, high: float) -> Range:
    """Return the range of values for a set of deep pictures whose values are `low` to `high`.

    Integers begin at 0 and end at the next of 8, 10, 12, 14 and 16 bits. Floats are 0 to 1 or 0 to
    255 if they fit. If some are negative, values are used from the lowest to the highest.
    """
    if kind != "float" and low >= 0:
        ends = [2.0**bits - 1 for bits in DEPTHS if high < 2**bits]
        return 0.0, ends[0] if ends else high
    if kind == "float" and low >= 0:
        ends = [end for end in (1.0, 255.0) if high <= end]
        return 0.0, ends[0] if ends else high
    return low, high if high > low else low + 1


def deep_to_rgb(
    image: Image.Image, low: float, high: float, inverted: bool, unsigned: bool
) -> Image.Image:
    """Convert a deep grey picture to RGB: `low` becomes black and `high` white, or inverted."""
    values = np.nan_to_num(values_of(image, unsigned).astype(np.float32), nan=low)
    share = np.clip((values - low) / (high - low), 0, 1)
    grey = ((1 - share if inverted else share) * 255).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
