"""Colours to sRGB, by the ICC profile that a picture holds. It is littlecms that converts."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

DEVICE_CLASSES = (
    "scnr",
    "mntr",
    "prtr",
    "spac",
)  # of ICC profiles that say what a picture's colours are
ROUNDING = 2  # levels of 255 in which two descriptions of sRGB differ


def apply_transform(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    """Apply a colour transform to a picture, which is brought to the transform's mode first."""
    if image.mode != transform.input_mode:
        image = image.convert(transform.input_mode)
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it returns None only if told to work in place
    return converted


@lru_cache(maxsize=64)
def to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a picture's own colours to sRGB; None if there is none to make.

    profile: an ICC profile, as cameras, phones and scanners embed it. One that is damaged or is for
    another kind of picture changes nothing, nor does one that gives the same colours as sRGB.
    """
    if not profile:
        return None
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        taken = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[own.profile.xcolor_space.strip()]
        grey = mode in ("L", "LA", "La", "1")
        if own.profile.device_class.strip() not in DEVICE_CLASSES or taken != (
            "L" if grey else "CMYK" if mode == "CMYK" else "RGB"
        ):
            return None
        transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), taken, "RGB")
        return None if changes_nothing(transform) else transform
    except (ImageCms.PyCMSError, OSError, KeyError, AttributeError, ValueError, TypeError):
        return None


def changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return whether a transform leaves colours as they are, but for rounding."""
    if transform.input_mode == "CMYK":
        return False
    levels = np.linspace(0, 255, 18).astype(np.uint8)
    colours = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(18, -1, 3))
    before = colours.convert(transform.input_mode)
    after = np.asarray(apply_transform(before, transform)).astype(int)
    return np.abs(after - np.asarray(before.convert("RGB"))).max() <= ROUNDING


@lru_cache(maxsize=1)
def lab_to_srgb() -> ImageCms.ImageCmsTransform:
    """Return the transform from L*a*b* to sRGB."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
