"""Fonts for labels in any script.

Pillow's own font draws ASCII and little else. DejaVu Sans, which comes with matplotlib, also has
accents, Cyrillic, Greek, Arabic and others. Chinese, Japanese, Korean and others are drawn with a
font of this machine, if it has one for them. If it has none, a character is written as its code
point, such as U+732B, so that labels can still be told apart.
"""

from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

DEJAVU = str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")

AnyFont = ImageFont.ImageFont | ImageFont.FreeTypeFont


def choose_font(text: str, size: int) -> tuple[AnyFont, str]:
    """Return a font for a text, and the text as that font can draw it.

    size: in pixels. The same text gives the same font on one machine.
    """
    path, drawn = choose_file(text)
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size), drawn


def choose_file(text: str) -> tuple[str, str]:
    """Return the file of a font for a text, "" for ASCII, and the text as that font can draw it."""
    if text.isascii():
        return "", text
    path = find_font(frozenset(text) - {"\n"})
    known = characters(path) | {"\n"}
    return path, "".join(each if each in known else f"U+{ord(each):04X}" for each in text)


@cache
def find_font(needed: frozenset[str]) -> str:
    """Return the file of a font that has all these characters; DejaVu Sans if none has."""
    if needed <= characters(DEJAVU):
        return DEJAVU
    for path in sorted(findSystemFonts()):
        if needed <= characters(path):
            return path
    return DEJAVU


@cache
def characters(path: str) -> frozenset[str]:
    """Return the characters that a font file can draw at any size; none if it cannot be read."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # of a damaged file
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
