"""One way to open a picture: what is served is what was judged, in every mode, format and depth."""

import io
import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from pawprint.exporting.shipped.predict import Classifier
from pawprint.pictures.formats import FORMATS
from pawprint.pictures.opening import (
    Preparation,
    Unusable,
    open_image,
    open_picture,
    orientation_of,
    range_of,
)
from pawprint.pictures.storing import measure_deep, ranges_of
from tests.support.exported import write_export
from tests.support.phone import DISPLAY_P3, cmyk_profile, grey_profile, heic
from tests.support.project import ROOT, Project

HOW = Preparation(max_size=100)


def scene(size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A smooth picture with a red, a green and a blue corner."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    pixels = np.stack([255 * (1 - x), 255 * x * (1 - y), 255 * y], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def saved(image: Image.Image, form: str, **more: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return io.BytesIO(buffer.getvalue())


def opened(content: io.BytesIO, how: Preparation = HOW) -> np.ndarray:
    return np.asarray(open_picture(content, how)).astype(int)


def seen_through() -> Image.Image:
    """A red square on a transparent ground."""
    image = Image.new("RGBA", (320, 240), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (80, 60, 240, 180))
    return image


def grey16() -> Image.Image:
    return Image.fromarray((np.linspace(0, 65535, 320)[None].repeat(240, 0)).astype(np.uint16))


def turned(orientation: int, form: str = "JPEG", **more: object) -> io.BytesIO:
    image = scene()
    exif = image.getexif()
    exif[0x0112] = orientation
    return saved(image, form, exif=exif, **more)


LAB = ImageCms.profileToProfile(
    scene(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
)
KINDS = {
    "RGB.jpg": lambda: saved(scene((1600, 1200)), "JPEG", quality=95),
    "grey.jpg": lambda: saved(scene().convert("L"), "JPEG"),
    "CMYK.jpg": lambda: saved(scene().convert("CMYK"), "JPEG", quality=95),
    "lying.jpg": lambda: turned(6),
    "RGBA.png": lambda: saved(seen_through(), "PNG"),
    "LA.png": lambda: saved(seen_through().convert("LA"), "PNG"),
    "palette.png": lambda: saved(scene().convert("P"), "PNG"),
    "clear palette.png": lambda: saved(
        scene().convert("P").quantize(16), "PNG", transparency=3
    ),
    "clear.gif": lambda: saved(seen_through(), "GIF"),
    "one bit.png": lambda: saved(scene().convert("1"), "PNG"),
    "sixteen.png": lambda: saved(grey16(), "PNG"),
    "sixteen.tif": lambda: saved(grey16(), "TIFF"),
    "big-endian.tif": lambda: big_endian(),
    "float.tif": lambda: saved(
        Image.fromarray(np.linspace(0, 1, 900, dtype="f").reshape(30, 30)), "TIFF"
    ),
    "LAB.tif": lambda: saved(LAB, "TIFF"),
    "RGBA.webp": lambda: saved(seen_through(), "WEBP", lossless=True),
    "RGB.bmp": lambda: saved(scene(), "BMP"),
    "map.ppm": lambda: saved(scene(), "PPM"),
    "RGBA.ico": lambda: saved(seen_through().resize((64, 64)), "ICO"),
    "RGBA.tga": lambda: saved(seen_through(), "TGA"),
    "RGB.pcx": lambda: saved(scene(), "PCX"),
    "RGB.jp2": lambda: saved(scene(), "JPEG2000"),
    "P3.jpg": lambda: saved(scene(), "JPEG", quality=95, icc_profile=DISPLAY_P3),
    "grey profile.png": lambda: saved(scene().convert("L"), "PNG", icc_profile=grey_profile(1.0)),
    "inks.jpg": lambda: saved(scene().convert("CMYK"), "JPEG", icc_profile=cmyk_profile()),
    "two pictures.mpo": lambda: saved(scene(), "MPO", save_all=True, append_images=[scene()]),
    "lying P3.avif": lambda: turned(6, "AVIF", icc_profile=DISPLAY_P3),
    "lying P3.heic": lambda: io.BytesIO(heic(scene(), 6, icc_profile=DISPLAY_P3)),
    "RGBA.heic": lambda: io.BytesIO(heic(seen_through())),
}  # fmt: skip


def big_endian() -> io.BytesIO:
    """The 16-bit gradient with its bytes in the other order."""
    values = np.asarray(grey16()).astype(">u2").tobytes()
    entries = [
        (256, 4, 320), (257, 4, 240), (258, 3, 16), (259, 3, 1), (262, 3, 1),
        (273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1), (278, 4, 240), (279, 4, len(values)),
    ]  # fmt: skip
    packed = b"".join(
        struct.pack(">HHI", tag, kind, 1)
        + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in entries
    )
    directory = struct.pack(">H", len(entries)) + packed + struct.pack(">I", 0)
    return io.BytesIO(b"MM" + struct.pack(">HI", 42, 8) + directory + values)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = write_export(tmp_path_factory.mktemp("opening") / "export")
    config = json.loads((folder / "model.json").read_text())
    config["prepare"] = {"resize": "shrink", "max_size": 100}
    (folder / "model.json").write_text(json.dumps(config))
    return Classifier(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_sees_what_verify_stored_but_for_jpegs_loss(classifier: Classifier, kind: str):
    content = KINDS[kind]()
    prepared = open_picture(content, HOW)
    as_served = classifier.prepare(content).astype(int)
    without_loss = classifier.prepare(saved(prepared, "PNG"))
    assert np.array_equal(without_loss, as_served)
    stored = saved(prepared, "JPEG", quality=90, subsampling="4:2:0")
    difference = np.abs(classifier.prepare(stored).astype(int) - as_served)
    assert difference.mean() < 2
    assert difference.max() < 45  # at a hard edge, in JPEG's coarse colours


@pytest.mark.parametrize("resize", ["shrink", "crop", "pad", "squish"])
@pytest.mark.parametrize("kind", ["RGB.jpg", "lying.jpg", "RGBA.png", "sixteen.png"])
def test_every_way_of_storing_is_followed_when_serving(tmp_path: Path, kind: str, resize: str):
    folder = write_export(tmp_path / "export")
    config = json.loads((folder / "model.json").read_text())
    config["prepare"] = {"resize": resize, "max_size": 100}
    (folder / "model.json").write_text(json.dumps(config))
    model = Classifier(folder)
    stored = saved(open_picture(KINDS[kind](), Preparation(resize, 100)), "PNG")
    assert np.array_equal(model.prepare(stored), model.prepare(KINDS[kind]()))


def test_every_format_is_among_the_kinds():
    written = {
        content().getvalue()[:0] or kind.rpartition(".")[2] for kind, content in KINDS.items()
    }
    known = {"jpg", "png", "gif", "tif", "webp", "bmp", "ppm", "ico", "tga", "pcx", "jp2"}
    known |= {"mpo", "avif", "heic"}
    assert known == written
    assert len(FORMATS) >= len(known)


def test_red_on_a_transparent_ground_is_red_on_white():
    for form in ("PNG", "WEBP", "GIF"):
        pixels = opened(saved(seen_through(), form))
        assert pixels[37, 50].tolist() == pytest.approx([255, 0, 0], abs=4)
        assert pixels[2, 2].tolist() == pytest.approx([255, 255, 255], abs=4)


def test_a_sixteen_bit_gradient_goes_from_black_to_white():
    for content in (KINDS["sixteen.png"](), KINDS["sixteen.tif"](), KINDS["big-endian.tif"]()):
        row = opened(content)[30, :, 0]
        assert row[0] < 5
        assert row[-1] > 250
        assert (np.diff(row) >= 0).all()


# --- depth: the range of a data set ---


@pytest.mark.parametrize(
    ("kind", "low", "high", "expected"),
    [
        ("unsigned", 0, 255, (0, 255)),
        ("unsigned", 3, 200, (0, 255)),
        ("unsigned", 0, 3900, (0, 4095)),
        ("unsigned", 0, 12000, (0, 16383)),
        ("unsigned", 0, 65535, (0, 65535)),
        ("unsigned", 0, 1e6, (0, 1e6)),
        ("signed", -1000, 3000, (-1000, 3000)),
        ("float", 0, 0.9, (0, 1)),
        ("float", 0, 200, (0, 255)),
        ("float", -3, 5, (-3, 5)),
        ("signed", 7, 60000, (0, 65535)),
        ("signed", -7, -7, (-7, -6)),
    ],
)
def test_the_range_fits_the_values(kind: str, low: float, high: float, expected: tuple):
    assert range_of(kind, low, high) == expected


def tiff(values: np.ndarray, **tags: object) -> io.BytesIO:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[int(tag[1:])] = value
    return saved(Image.fromarray(values), "TIFF", tiffinfo=info)


def test_twelve_bits_are_white_where_the_set_says_so(tmp_path: Path):
    dark, light = (np.full((40, 40), value, np.uint16) for value in (1000, 4000))
    for name, values in (("dark", dark), ("light", light)):
        (tmp_path / f"{name}.png").write_bytes(saved(Image.fromarray(values), "PNG").getvalue())
    measured = []
    for path in sorted(tmp_path.iterdir()):
        with open_image(path, HOW) as image:
            measured.append(measure_deep(image))
    ranges = ranges_of(each for each in measured if each)
    assert ranges == {"unsigned": (0, 4095)}
    how = Preparation(max_size=100, ranges=ranges)
    assert opened(saved(Image.fromarray(dark), "PNG"), how).mean() == pytest.approx(62, abs=1)
    assert opened(saved(Image.fromarray(light), "PNG"), how).mean() == pytest.approx(249, abs=1)


def test_signed_values_and_white_is_zero_and_ranges_of_tags():
    hounsfield = np.linspace(-1000, 3000, 1600).reshape(40, 40).astype(np.int16)
    row = opened(tiff(hounsfield.astype(np.int32), t339=2))[:, :, 0]
    assert row.min() < 5
    assert row.max() > 250
    values = np.full((40, 40), 1000, np.uint16)
    assert opened(tiff(values, t280=0, t281=2000)).mean() == pytest.approx(128, abs=1)
    inverted = opened(tiff(np.array([[0, 65535]], np.uint16).repeat(40, 0).repeat(20, 1), t262=0))
    assert inverted[20, 2].max() > 250
    assert inverted[20, -2].max() < 5


def test_a_set_that_comes_out_black_is_refused_with_advice_and_the_report_is_there(small: Project):
    own = small.path / "data/own"
    for i, path in enumerate(sorted(own.rglob("*.jpg"))):
        values = np.full((64, 64), 100 + i, np.uint16)
        values[0, 0] = 65535  # one hot pixel
        Image.fromarray(values).save(path.with_suffix(".png"))
        path.unlink()
    small.stage("gather")
    line = small.failing_stage("verify")
    assert "60 of 60 pictures of more than 8 bits come out nearly black" in line
    assert "(range: unsigned 0 to 65535); set verify.range" in line
    assert (small.path / "data/rejected.csv").is_file()
    small.edit(**{"verify.range": [0, 255]})
    small.stage("verify")
    small.edit(**{"verify.range": [255, 0]})
    assert "a range of [lowest, highest]" in small.failing_stage("verify")


# --- metadata and colours ---


def odd_exif() -> bytes:
    """An EXIF with the width as text, an exposure of -1/0, and a turned camera's orientation."""
    text, fraction = 8 + 2 + 3 * 12 + 4, 8 + 2 + 3 * 12 + 4 + 16
    entries = [
        struct.pack("<HHII", 0x0100, 2, 10, text),
        struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0),
        struct.pack("<HHII", 0x9204, 10, 1, fraction),
    ]
    directory = struct.pack("<H", 3) + b"".join(entries) + struct.pack("<I", 0)
    values = b"very wide\0".ljust(16, b"\0") + struct.pack("<ii", -1, 0)
    return b"Exif\0\0II" + struct.pack("<HI", 42, 8) + directory + values


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_only_the_orientation_is_read_and_odd_tags_change_nothing(form: str):
    upright = opened(saved(scene(), "PNG"))
    more = {"lossless": True} if form == "WEBP" else {}
    pixels = opened(saved(scene(), form, exif=odd_exif(), **more))
    assert pixels.shape == (100, 75, 3)
    assert np.abs(np.rot90(pixels) - upright).mean() < 8


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_junk_in_the_place_of_exif_leaves_a_sound_picture(form: str):
    junk = b"Exif\0\0" + b"II*\0" + bytes(range(200))
    pixels = opened(saved(scene(), form, exif=junk))
    assert pixels.shape == (75, 100, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_whatever_way_the_camera_was_held(orientation: int):
    with Image.open(turned(orientation)) as image:
        assert orientation_of(image) == orientation
    expected = (75, 100, 3) if orientation < 5 else (100, 75, 3)
    assert opened(turned(orientation)).shape == expected


def test_the_colours_of_another_profile_become_srgb():
    other = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    plain = opened(saved(scene(), "PNG"))
    assert np.array_equal(opened(saved(scene(), "PNG", icc_profile=b"broken")), plain)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(opened(saved(scene(), "PNG", icc_profile=srgb)), plain)
    assert np.array_equal(opened(saved(scene(), "PNG", icc_profile=other.tobytes())), plain)


# --- what is no picture, and what would cost too much ---


def test_only_formats_of_pictures_are_tried(tmp_path: Path):
    path = tmp_path / "bear.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(Unusable) as found:
        open_picture(path, HOW)
    assert found.value.reason == "not a picture"


def test_a_picture_of_many_pixels_is_refused_before_it_is_decoded():
    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 6, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))
    with pytest.raises(Unusable) as found:
        open_picture(io.BytesIO(png), HOW)
    assert found.value.reason == "too large"


def test_memory_beside_the_decoded_picture_does_not_grow_with_it(tmp_path: Path):
    """90 million pixels of palette with transparency: 90 MB decoded, once 1.5 GB to convert."""
    image = Image.new("P", (9500, 9500), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "x.png", transparency=0)
    code = f"""
import resource
from pawprint.pictures.opening import Preparation, open_picture
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
open_picture({str(tmp_path / "x.png")!r}, Preparation(max_size=400))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300


def test_the_folder_opens_pictures_alone_beside_a_model(tmp_path: Path):
    shutil.copytree(ROOT / "pawprint/pictures", tmp_path / "pictures")
    scene().save(tmp_path / "x.png")
    code = (
        "from pictures.opening import Preparation, open_picture; import sys;"
        "print(open_picture('x.png', Preparation(max_size=50)).size, 'pawprint' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "(50, 38) False\n", done.stderr
