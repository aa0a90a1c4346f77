"""A phone's pictures: HEIC, orientation, and the colours of other profiles than sRGB."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from pawprint.pictures.colours import to_srgb
from pawprint.pictures.formats import looks_like_picture
from pawprint.pictures.opening import Preparation, Unusable, open_picture
from pawprint.sources.content import content_type_of
from tests.support.phone import (
    ADOBE,
    DISPLAY_P3,
    P3,
    PROPHOTO,
    SRGB,
    Primaries,
    cmyk_profile,
    grey_profile,
    heic,
    in_srgb,
    movie,
    profile,
    rgb_profile,
    written,
)
from tests.support.project import ROOT

FULL = Preparation()
COLOUR = (200, 120, 60)


def scene() -> Image.Image:
    """A grey picture of 160 x 96 whose upper left corner is red."""
    image = Image.new("RGB", (160, 96), (128, 128, 128))
    image.paste((220, 20, 20), (0, 0, 40, 24))
    return image


def opened(content: bytes, how: Preparation = FULL) -> np.ndarray:
    return np.asarray(open_picture(io.BytesIO(content), how)).astype(int)


def corner(pixels: np.ndarray) -> str:
    """The corner in which the red is: upper or lower, left or right."""
    height, width = pixels.shape[:2]
    places = {"upper left": (5, 5), "upper right": (5, width - 6)}
    places |= {"lower left": (height - 6, 5), "lower right": (height - 6, width - 6)}
    (found,) = (name for name, at in places.items() if pixels[at][0] > pixels[at][1] + 100)
    return found


# --- HEIC ---


def test_heic_is_decoded_and_known_by_name_and_content():
    content = heic(scene())
    assert opened(content).shape == (96, 160, 3)
    assert np.abs(opened(content)[5, 5] - (220, 20, 20)).max() < 12
    assert content_type_of(content[:512]) == "image/heic"
    for name in ("IMG_1.HEIC", "x.heif", "x.hif", "x.mpo", "x.avif"):
        assert looks_like_picture(name)
    assert not looks_like_picture("IMG_1.MOV")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once_as_a_jpeg_of_the_same_camera(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg = opened(written(scene(), "JPEG", exif=exif, quality=95))
    turned = opened(heic(scene(), orientation))
    assert turned.shape == jpeg.shape
    assert corner(turned) == corner(jpeg)


def test_the_exif_orientation_of_heic_counts_for_nothing_beside_its_own_boxes():
    content = heic(scene(), 6)
    at = content.index(b"irot") + 4
    unturned = content[:at] + b"\0" + content[at + 1 :]
    assert opened(unturned).shape == (96, 160, 3)
    assert corner(opened(unturned)) == "upper left"


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
def test_heic_of_every_brand_is_decoded(brand: bytes):
    content = heic(scene()).replace(b"ftypheic", b"ftyp" + brand)
    assert opened(content).shape == (96, 160, 3)
    assert content_type_of(content[:512]) == "image/heic"


def test_avif_of_a_general_brand_is_not_taken_for_heic():
    content = written(scene(), "AVIF").replace(b"ftypavif", b"ftypmif1")
    assert opened(content).shape == (96, 160, 3)
    assert content_type_of(content[:512]) == "image/avif"


def test_heic_with_transparency_grey_and_ten_bits():
    clear = scene().convert("RGBA")
    clear.putalpha(0)
    assert opened(heic(clear)).min() > 250
    assert opened(heic(scene().convert("L")))[60, 80].tolist() == pytest.approx([128] * 3, abs=2)
    deep = Image.fromarray(np.full((64, 64), 128 * 257, np.uint16))
    assert opened(heic(deep))[30, 30].tolist() == pytest.approx([128] * 3, abs=2)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.97])
def test_heic_that_is_cut_short_is_broken(share: float):
    noise = np.random.default_rng(1).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    content = heic(Image.fromarray(noise))
    with pytest.raises(Unusable) as found:
        opened(content[: int(share * len(content))])
    assert found.value.reason == "broken"


@pytest.mark.parametrize(
    ("size", "reason"), [((60_000, 60_000), "too large"), ((8, 8), "broken"), ((0, 0), "broken")]
)
def test_heic_that_lies_about_its_size_is_refused(size: tuple[int, int], reason: str):
    content = bytearray(heic(scene()))
    at = content.index(b"ispe") + 8
    content[at : at + 8] = b"".join(side.to_bytes(4, "big") for side in size)
    with pytest.raises(Unusable) as found:
        opened(bytes(content))
    assert found.value.reason == reason


def test_without_a_decoder_the_reason_says_what_to_install():
    code = f"""
import io, sys
sys.modules["pi_heif"] = None
from pawprint.pictures.formats import FORMATS
from pawprint.pictures.opening import AS_STORED, Unusable, open_picture
assert "HEIF" not in FORMATS
try:
    open_picture(io.BytesIO({heic(scene())[:200]!r}), AS_STORED)
except Unusable as why:
    print(why)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "a HEIC picture; `pip install pi-heif` adds what reads it\n", done.stderr


# --- MPO, and videos ---


def test_the_first_picture_of_an_mpo_counts_and_a_damaged_index_does_not_matter():
    content = written(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (160, 96))])
    assert corner(opened(content)) == "upper left"
    damaged = content.replace(b"MPF\0", b"MPF\0\xff\xff\xff\xff", 1)
    assert corner(opened(damaged)) == "upper left"
    assert corner(opened(content[: content.index(b"\xff\xd9") + 2])) == "upper left"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (movie(), "video/quicktime"),
        (b"\0\0\0\x08wide\0\0\1\0mdat", "video/quicktime"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video/mp4"),
        (b"\0\0\0\x1cftypisom\0\0\2\0isomiso2", "video/mp4"),
        (b"\x1aE\xdf\xa3\x01\0\0\0", "video/x-matroska"),
        (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
    ],
)
def test_a_video_is_known_by_its_content(head: bytes, kind: str):
    assert content_type_of(head) == kind


# --- colours ---

RGB_SPACES: dict[str, tuple[Primaries, float]] = {
    "Display P3": (P3, 0),
    "Adobe RGB (1998)": (ADOBE, 2.19921875),
    "ProPhoto RGB": (PROPHOTO, 1.8),
    "linear sRGB": (SRGB, 1.0),
}


@pytest.mark.parametrize("name", RGB_SPACES)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF", "MPO"])
def test_the_colours_of_every_rgb_profile_become_srgb(name: str, form: str):
    icc = rgb_profile(*RGB_SPACES[name], name)
    image = Image.new("RGB", (64, 64), COLOUR)
    more = {"lossless": True} if form == "WEBP" else {"quality": 95}
    content = heic(image, icc_profile=icc) if form == "HEIF" else None
    content = content or written(image, form, icc_profile=icc, **more)
    expected = in_srgb(COLOUR, *RGB_SPACES[name])
    assert np.abs(expected - COLOUR).max() > 8
    assert np.abs(opened(content)[30, 30] - expected).max() < 5


def test_p3_is_converted_in_palettes_and_behind_transparency():
    image = Image.new("RGB", (64, 64), COLOUR)
    expected = in_srgb(COLOUR, P3, 0)
    for same in (image.quantize(4), image.convert("RGBA")):
        content = written(same, "PNG", icc_profile=DISPLAY_P3)
        assert np.abs(opened(content)[30, 30] - expected).max() < 3, same.mode


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_the_tones_of_a_grey_profile_become_those_of_srgb(mode: str):
    values = np.full((64, 64), 100 * 257, np.uint16)
    values[0, 0] = 65535
    grey = Image.fromarray(values)
    image = grey if mode == "I;16" else Image.new("L", (64, 64), 100).convert(mode)
    expected = in_srgb((100, 100, 100), SRGB, 1.0)
    pixel = opened(written(image, "PNG", icc_profile=grey_profile(1.0)))[30, 30]
    assert np.abs(pixel - expected).max() < 3
    assert pixel[0] > 150


def test_inks_are_converted_by_their_own_profile():
    image = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    by_profile = opened(written(image, "TIFF", icc_profile=cmyk_profile()))[30, 30]
    assert np.ptp(by_profile) < 6  # grey, as the profile has it, not cyan
    assert by_profile[0] == pytest.approx(185, abs=8)  # L* = 75
    assert opened(written(image, "TIFF"))[30, 30].tolist() == [0, 255, 255]
    jpeg = opened(written(image, "JPEG", icc_profile=cmyk_profile(), quality=95))[30, 30]
    assert np.abs(jpeg - by_profile).max() < 6


@pytest.mark.parametrize(
    "icc",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        rgb_profile(SRGB, 0, "c2"),
        rgb_profile(SRGB, 0, "sRGB IEC61966-2.1"),
    ],
)
def test_srgb_under_any_name_changes_not_a_bit(icc: bytes):
    assert to_srgb(icc, "RGB") is None
    content = written(scene(), "PNG", icc_profile=icc)
    assert np.array_equal(opened(content), np.asarray(scene()))


def test_a_profile_for_another_kind_of_picture_changes_nothing():
    link = profile(b"RGB ", "link", b"link")
    for icc in (grey_profile(1.0), cmyk_profile(), link):
        content = written(scene(), "PNG", icc_profile=icc)
        assert np.array_equal(opened(content), np.asarray(scene()))
    grey = scene().convert("L")
    content = written(grey, "PNG", icc_profile=DISPLAY_P3)
    assert np.array_equal(opened(content)[..., 0], np.asarray(grey))


def test_no_damage_to_a_profile_costs_the_picture():
    generator = np.random.default_rng(5)
    for icc in (DISPLAY_P3, grey_profile(1.8), cmyk_profile()):
        image = {b"GRAY": "L", b"CMYK": "CMYK"}.get(icc[16:20], "RGB")
        for _ in range(60):
            damaged = bytearray(icc[: generator.integers(1, len(icc) + 1)])
            for at in generator.integers(0, len(damaged), 8):
                damaged[at] = generator.integers(0, 256)
            content = written(scene().convert(image), "TIFF", icc_profile=bytes(damaged))
            assert opened(content).shape == (96, 160, 3)


def test_a_picture_in_strips_has_the_colours_of_one_in_one_piece():
    image = Image.new("RGB", (3000, 3000), COLOUR)
    content = written(image, "PNG", icc_profile=DISPLAY_P3, compress_level=1)
    small = opened(content, Preparation(max_size=100))
    assert np.abs(small - in_srgb(COLOUR, P3, 0)).max() < 3
