"""A JPEG that needs no change keeps its pixels to the last bit, and loses everything else."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pawprint.pictures.lossless import strip_jpeg
from pawprint.pictures.opening import Preparation
from stages import verify

HOW = Preparation("shrink", 400, 32, 100_000_000, {})
SECRET = b"secret"


def picture(size: tuple[int, int] = (120, 80), mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3))
    return Image.fromarray(noise.astype(np.uint8)).resize(size).convert(mode)


def jpeg(image: Image.Image | None = None, **options: object) -> bytes:
    content = io.BytesIO()
    (image or picture()).save(content, "JPEG", **options)
    return content.getvalue()


def with_orientation(turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = turn, "secret"
    return jpeg(exif=exif)


def thumbnail_in_jfif(content: bytes) -> bytes:
    """The file with a JFXX segment, which holds a thumbnail."""
    extra = b"JFXX\x00\x13" + SECRET
    return content[:20] + b"\xff\xe0" + (len(extra) + 2).to_bytes(2, "big") + extra + content[20:]


def stored(tmp_path: Path, content: bytes) -> tuple[bytes, np.ndarray]:
    """What verify stores of a file, and the pixels in the file itself."""
    path = tmp_path / "file"
    path.write_bytes(content)
    out = tmp_path / "out.jpg"
    image = verify.open_picture(path, HOW)
    verify.store(image, path, out, 90)
    with Image.open(path) as own:
        return out.read_bytes(), np.asarray(own.convert("RGB"))


@pytest.mark.parametrize(
    "content",
    [
        jpeg(),
        jpeg(subsampling="4:4:4", quality=100),
        jpeg(subsampling="4:2:2", quality=30),
        jpeg(optimize=True),
        jpeg(restart_marker_blocks=3),
        jpeg(comment=SECRET),
        with_orientation(1),
        thumbnail_in_jfif(jpeg()),
        jpeg() + SECRET,
        jpeg() + jpeg(picture((64, 64))),  # as phones add a second picture
        jpeg(xmp=SECRET),
    ],
    ids=["plain", "444", "422", "optimised", "restarts", "comment", "exif", "thumbnail", "tail",
         "two pictures", "xmp"],
)  # fmt: skip
def test_the_pixels_stay_and_everything_else_goes(tmp_path: Path, content: bytes):
    found, pixels = stored(tmp_path, content)
    with Image.open(io.BytesIO(found)) as image:
        assert np.array_equal(np.asarray(image), pixels)
        assert image.mode == "RGB"
        assert not image.getexif()
    assert SECRET not in found
    assert len(found) <= len(content)
    again = io.BytesIO()
    Image.fromarray(pixels).save(again, "JPEG", quality=90, subsampling="4:2:0")
    assert found != again.getvalue(), "it was encoded again"


@pytest.mark.parametrize(
    "content",
    [
        jpeg(progressive=True),
        jpeg(keep_rgb=True),
        jpeg(picture(mode="L")),
        jpeg(picture(mode="CMYK")),
        jpeg(picture((800, 400))),  # decoded at half its size
        jpeg(picture((401, 100))),
        with_orientation(6),
    ],
    ids=["progressive", "RGB inside", "grey", "CMYK", "large", "a little too large", "turned"],
)
def test_any_other_picture_is_encoded(tmp_path: Path, content: bytes):
    found, _ = stored(tmp_path, content)
    again = io.BytesIO()
    (tmp_path / "file").write_bytes(content)
    image = verify.open_picture(tmp_path / "file", HOW)
    image.save(again, "JPEG", quality=90, subsampling="4:2:0", optimize=False)
    assert found == again.getvalue()


def test_a_png_is_encoded_without_its_texts(tmp_path: Path):
    info = PngInfo()
    info.add_text("where", "secret")
    content = io.BytesIO()
    picture().save(content, "PNG", pnginfo=info)
    found, _ = stored(tmp_path, content.getvalue())
    assert found[:2] == b"\xff\xd8"
    assert SECRET not in found


@pytest.mark.parametrize("cut", [0, 1, 2, 20, 200, -3, -1])
def test_a_file_that_is_cut_short_is_not_stored_as_it_is(cut: int):
    whole = jpeg()
    assert strip_jpeg(whole, (120, 80)) is not None
    assert strip_jpeg(whole[:cut], (120, 80)) is None


def test_padding_between_segments_is_no_hindrance():
    whole = jpeg()
    padded = whole[:2] + b"\xff\xff" + whole[2:]
    assert strip_jpeg(padded, (120, 80)) == strip_jpeg(whole, (120, 80))
