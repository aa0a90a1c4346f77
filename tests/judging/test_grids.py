"""Grids of pictures: their captions can be read in any script."""

import pytest
from PIL import Image

from pawprint.judging import fonts
from pawprint.judging.grids import TILE, shorten, tiles

WHITE = Image.new("RGB", (8, 8), "white")


def draw(*captions: str) -> bytes:
    return tiles([WHITE] * len(captions), captions, columns=2, lines=2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ébène\n0.10 / 0.90", "épéée\n0.10 / 0.90"),
        ("медведь", "ведмедь"),
        ("δέλτα", "άλφας"),
        ("دب", "قط"),
        ("猫", "狗"),
        ("곰", "개"),
        ("🐻", "🐈"),
        ("bear 猫", "bear 狗"),
    ],
)
def test_captions_in_any_script_can_be_told_apart(one, other):
    """Characters that a font lacks are boxes, the same for all."""
    assert draw(one) != draw(other)


def test_a_character_that_no_font_has_is_its_code_point(monkeypatch):
    monkeypatch.setattr(fonts, "findSystemFonts", list)
    fonts.find_font.cache_clear()
    _, text = fonts.choose_font("é 猫\n0.10", size=13)
    assert text == "é U+732B\n0.10"
    fonts.find_font.cache_clear()


def test_captions_in_ascii_are_drawn_as_before_whatever_fonts_there_are(monkeypatch):
    monkeypatch.delattr(fonts, "find_font")
    assert draw("grizzly / $black$\n0.10 / 0.90") != draw("grizzly / $teddy$\n0.10 / 0.90")


def test_the_same_captions_give_the_same_bytes():
    assert draw("медведь", "猫") == draw("медведь", "猫")


def test_long_names_are_cut_alike_and_reach_into_no_other_tile():
    font, _ = fonts.choose_font("a", size=13)
    assert shorten("red / green", font) == "red / green"
    line = "american_staffordshire_terrier / staffordshire_bullterrier"
    cut = shorten(line, font)
    assert font.getlength(cut) <= TILE
    one, other = cut.split(" / ")
    assert one.startswith("american_")
    assert other.startswith("staffords")
    assert one.endswith("..")
    assert shorten("w" * 300, font).endswith("w..")
