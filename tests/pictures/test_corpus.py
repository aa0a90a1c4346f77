"""verify against broken and odd files: each ends in its row, and none ends the stage."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

from pawprint.compute import engine
from pawprint.compute.engine import Engine
from pawprint.pictures.opening import Preparation, open_picture
from stages import verify
from tests.support.phone import DISPLAY_P3, heic
from tests.support.world import World, picture


def scene(number: int = 0, size: tuple[int, int] = (120, 80), mode: str = "RGB") -> Image.Image:
    """A picture whose upper left corner is red, the rest noise of its own."""
    noise = np.random.default_rng(number).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(size)
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 4, size[1] // 4), "red")
    return image.convert(mode)


def save(image: Image.Image, form: str = "JPEG", **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    """A picture as a turned camera stores it: upright again once EXIF is obeyed."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[
        orientation
    ]  # Image.Transpose that the orientation undoes
    image = scene(orientation)
    exif = image.getexif()
    exif[0x0112] = orientation
    return save(image.transpose(Image.Transpose(undo)), exif=exif)


def turned_heic(orientation: int) -> bytes:
    """The same as HEIC, in which boxes of its own say how it is turned."""
    with Image.open(io.BytesIO(turned(orientation))) as image:
        return heic(image.convert("RGB"), orientation)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(10_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 80_000_000, zip=True)
    return save(scene(), "PNG", pnginfo=info)


def flipped(content: bytes, place: float) -> bytes:
    """A byte of a PNG damaged: its checksums say so."""
    at = int(len(content) * place)
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def animated(form: str, seed: int) -> bytes:
    frames = [scene(seed), scene(seed + 1), scene(seed + 2)]
    return save(frames[0], form, save_all=True, append_images=frames[1:])


def lab() -> bytes:
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    return save(ImageCms.applyTransform(scene(41), transform), "TIFF")


def clear(number: int, mode: str, form: str) -> bytes:
    image = scene(number, mode="RGBA")
    image.paste((0, 0, 0, 0), (60, 40, 120, 80))
    return save(image.convert(mode), form)


def grey(dtype: type, factor: float, form: str) -> bytes:
    values = np.asarray(scene(50, mode="L")).astype(np.float64) / 255 * factor
    return save(Image.fromarray(values.astype(dtype)), form)


JPEG, PNG = save(scene(1, (200, 150)), quality=90), save(scene(2, (200, 150)), "PNG")
BROKEN: dict[str, tuple[Callable[[], bytes] | bytes, str]] = {
    "empty.jpg": (b"", "empty"),
    "page.jpg": (b"<!doctype html><html><body>404</body></html>", "not a picture"),
    "answer.jpg": (b'{"error": 404}', "not a picture"),
    "drawing.svg": (
        b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        "not a picture",
    ),
    "paper.pdf": (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "not a picture"),
    "script.eps": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n",
        "not a picture",
    ),
    "noise.jpg": (np.random.default_rng(3).bytes(5000), "not a picture"),
    "zeros.jpg": (bytes(5000), "not a picture"),
    "one-byte.jpg": (b"\xff", "not a picture"),
    "jpeg-head-only.jpg": (b"\xff\xd8\xff", "not a picture"),
    "text.jpg": ("Bär\n".encode("latin-1"), "not a picture"),
    "cut-early.jpg": (JPEG[:300], "broken"),
    "cut-half.jpg": (JPEG[: len(JPEG) // 2], "broken"),
    "cut-late.jpg": (JPEG[:-200], "broken"),
    "cut-two-bytes.png": (PNG[: len(PNG) // 2], "broken"),
    "damaged.png": (flipped(PNG, 0.5), "broken"),
    "cut.gif": (save(scene(4), "GIF")[:-900], "broken"),
    "cut.webp": (save(scene(5), "WEBP")[:-300], "broken"),
    "cut.bmp": (save(scene(6), "BMP")[:5000], "broken"),
    "cut.tif": (save(scene(7), "TIFF")[:5000], "broken"),
    "cut.ppm": (save(scene(8), "PPM")[:5000], "broken"),
    "cut.heic": (heic(scene(44))[:-900], "broken"),
    "cut-early.heic": (heic(scene(45))[:200], "broken"),
    "cut.avif": (save(scene(46), "AVIF")[:200], "broken"),
    "lying.png": (png_of_size(2000, 2000), "broken"),
    "text-bomb.png": (text_bomb, "broken"),
    "bomb.png": (png_of_size(60_000, 60_000), "too large"),
    "bomb-flat.png": (png_of_size(200_000_000, 1), "too large"),
    "bomb.gif": (
        b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\0\0\0\0\xff\xff\xff\xff\0\x08\0",
        "too large",
    ),
    "tiny.png": (save(scene(9, (9, 9)), "PNG"), "too small"),
    "pixel.gif": (save(Image.new("RGB", (1, 1)), "GIF"), "too small"),
    "strip.jpg": (save(scene(10, (3000, 20))), "too small"),
}
SOUND: dict[str, Callable[[], bytes] | bytes] = {
    "plain.jpg": JPEG,
    "progressive.jpg": save(scene(11), progressive=True),
    "grey.jpg": save(scene(12, mode="L")),
    "cmyk.jpg": save(scene(13, mode="CMYK")),
    "really-png.jpg": save(scene(14), "PNG"),
    "really-jpeg.png": save(scene(15)),
    "no-suffix": save(scene(16)),
    "UPPER.JPG": save(scene(17)),
    "with space, comma & ü.jpg": save(scene(18)),
    "palette.png": save(scene(19, mode="P"), "PNG"),
    "bits.png": save(scene(20, mode="1"), "PNG"),
    "alpha.png": clear(21, "RGBA", "PNG"),
    "grey-alpha.png": clear(22, "LA", "PNG"),
    "alpha.webp": clear(23, "RGBA", "WEBP"),
    "clear-palette.png": lambda: save(scene(24, mode="P"), "PNG", transparency=0),
    "sixteen.png": grey(np.uint16, 65535, "PNG"),
    "integers.tif": grey(np.int32, 65535, "TIFF"),
    "floats.tif": grey(np.float32, 1.0, "TIFF"),
    "lab.tif": lab,
    "animated.gif": animated("GIF", 25),
    "animated.webp": animated("WEBP", 28),
    "animated.png": animated("PNG", 31),
    "pages.tif": animated("TIFF", 34),
    "icon.ico": save(scene(37, (64, 64)), "ICO"),
    "bitmap.bmp": save(scene(38), "BMP"),
    "map.ppm": save(scene(39), "PPM"),
    "trailing.jpg": save(scene(40)) + b"and more" * 100,
    "bad-exif.jpg": save(scene(42), exif=b"Exif\0\0garbage"),
    "large.jpg": save(scene(43, (2400, 1600))),
    "phone.HEIC": heic(scene(47), icc_profile=DISPLAY_P3),
    "renamed.jpg": heic(scene(48)),
    "alpha.heic": lambda: heic(Image.open(io.BytesIO(clear(49, "RGBA", "PNG")))),
    "p3.jpg": save(scene(51), icc_profile=DISPLAY_P3),
    "two.mpo": save(scene(52), "MPO", save_all=True, append_images=[scene(53)]),
    "picture.avif": save(scene(54), "AVIF"),
    "bad-profile.jpg": save(scene(55), icc_profile=DISPLAY_P3[:300]),
    **{f"turned-{orientation}.jpg": turned(orientation) for orientation in range(2, 9)},
    **{f"turned-{orientation}.heic": turned_heic(orientation) for orientation in range(2, 9)},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The stage run once over everything, half of it under another label, with duplicates."""
    world = World(tmp_path_factory.mktemp("corpus") / "project")
    everything = {**{name: content for name, (content, _) in BROKEN.items()}, **SOUND}
    for number, (name, content) in enumerate(everything.items()):
        world.write(
            f"data/own/{'ab'[number % 2]}/{name}", content() if callable(content) else content
        )
    for name in ("a/copy.jpg", "a/copy of copy.jpg"):
        world.write(f"data/own/{name}", picture(77))
    for name in ("a/either.jpg", "b/or.jpg"):
        world.write(f"data/own/{name}", picture(78))
    world.write("data/sources/tested.yaml", "kind: folder\n")
    world.params(source="tested")
    world.run("gather")
    world.run("verify")
    return world


def row(rows: list[dict[str, str]], name: str) -> dict[str, str]:
    found = [each for each in rows if each["url"][2:] == name]
    assert len(found) == 1, f"{name} stands in {len(found)} rows"
    return found[0]


def test_the_corpus_has_at_least_forty_files():
    assert len(BROKEN) + len(SOUND) >= 60


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_rejected_with_the_right_reason(corpus: World, name: str):
    rejected = row(corpus.table("rejected"), name)
    assert rejected["reason"] == BROKEN[name][1], rejected
    assert rejected["detail"]


@pytest.mark.parametrize("name", SOUND)
def test_odd_files_become_upright_rgb_jpegs_that_look_like_themselves(corpus: World, name: str):
    kept = row(corpus.table("images"), name)
    with Image.open(corpus.path / kept["path"]) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert [str(side) for side in image.size] == [kept["width"], kept["height"]]
        assert image.width / image.height == pytest.approx(
            1.0 if name == "icon.ico" else image.width / image.height
        )
        assert max(image.size) <= 400
        corner = (
            np.asarray(image)[2 : image.height // 6, 2 : image.width // 6]
            .reshape(-1, 3)
            .mean(axis=0)
        )
        last = np.asarray(image)[-8:, -8:].reshape(-1, 3).mean(axis=0)
    if name in (
        "grey.jpg",
        "bits.png",
        "grey-alpha.png",
        *(n for n in SOUND if n.endswith("5.tif") or "sixteen" in n),
    ):
        assert np.ptp(corner) < 12
    elif name in ("sixteen.png", "integers.tif", "floats.tif"):
        assert 60 < corner.mean() < 92  # the grey of pure red
    elif name != "clear-palette.png":
        assert corner[0] > 180, corner
        assert corner[1:].max() < 90, corner
    if "alpha" in name:
        assert last.min() > 240, "what is transparent lies on white"


def test_turned_pictures_are_upright(corpus: World):
    for orientation, suffix in product(range(2, 9), ("jpg", "heic")):
        kept = row(corpus.table("images"), f"turned-{orientation}.{suffix}")
        assert (kept["width"], kept["height"]) == ("120", "80")


def test_duplicates_are_kept_once_and_two_labels_are_reported(corpus: World):
    rejected = corpus.table("rejected")
    assert [each["reason"] for each in rejected if "copy" in each["url"]] == ["exact duplicate"]
    both = [each for each in rejected if each["url"] in ("a/either.jpg", "b/or.jpg")]
    assert [each["reason"] for each in both] == ["two labels"] * 2
    assert "a (a/either.jpg), b (b/or.jpg)" in both[0]["detail"]


def test_every_file_stands_in_exactly_one_row(corpus: World):
    rows = [each["url"] for name in ("images", "rejected") for each in corpus.table(name)]
    assert sorted(rows) == sorted(each["url"] for each in corpus.table())
    metrics = corpus.metrics("verify")
    assert (metrics["kept"], metrics["kept"] + metrics["rejected"]) == (len(SOUND) + 1, len(rows))
    stored = [path for path in (corpus.path / "data/images").rglob("*") if path.is_file()]
    assert len(stored) == metrics["kept"]


def decode(content: bytes, tmp_path: Path, **options: object) -> Image.Image:
    (tmp_path / "x").write_bytes(content)
    values = {"max_size": 100, "min_size": 8, "max_pixels": 10_000_000, **options}
    return open_picture(tmp_path / "x", Preparation(**values))


@pytest.mark.parametrize(
    ("resize", "size", "expected"),
    [
        ("shrink", (900, 600), (100, 67)),
        ("shrink", (60, 40), (60, 40)),
        ("crop", (900, 600), (100, 100)),
        ("crop", (60, 40), (40, 40)),
        ("pad", (900, 600), (100, 100)),
        ("pad", (60, 40), (60, 60)),
        ("squish", (900, 600), (100, 100)),
        ("squish", (60, 40), (60, 60)),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_resizing_gives_these_sizes(
    tmp_path: Path, resize: str, size: tuple, expected: tuple, form: str
):
    assert decode(save(scene(1, size), form), tmp_path, resize=resize).size == expected


def test_pad_keeps_all_on_black_and_crop_keeps_the_middle(tmp_path: Path):
    image = Image.new("RGB", (300, 100), "white")
    image.paste("blue", (100, 0, 200, 100))
    padded = np.asarray(decode(save(image, "PNG"), tmp_path, resize="pad")).astype(int)
    assert padded[0].max() == 0
    assert padded[50, 5].min() > 200
    cropped = np.asarray(decode(save(image, "PNG"), tmp_path, resize="crop")).astype(int)
    assert cropped[..., 2].min() > 200
    assert cropped[5:-5, 5:-5, 0].max() < 50


@pytest.mark.parametrize("resize", ["shrink", "crop", "pad", "squish"])
@pytest.mark.parametrize("size", [(1600, 1200), (1000, 3100), (790, 810)])
def test_the_draft_mode_of_jpeg_scales_nothing_up_and_looks_the_same(
    tmp_path: Path, resize: str, size: tuple
):
    smooth = scene(3, (16, 12)).resize(size, Image.Resampling.BICUBIC)
    quick = np.asarray(decode(save(smooth, quality=95), tmp_path, resize=resize)).astype(float)
    full = np.asarray(decode(save(smooth, "PNG"), tmp_path, resize=resize)).astype(float)
    assert quick.shape == full.shape
    assert np.abs(quick - full).mean() < 3


def test_a_decoder_that_crashes_costs_its_own_picture_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Decoders are C code fed by strangers. Processes are forked, to inherit the patch."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    import multiprocessing

    monkeypatch.chdir(tmp_path)
    context = multiprocessing.get_context("fork")
    pool = engine.ProcessPoolExecutor
    monkeypatch.setattr(
        engine, "ProcessPoolExecutor", lambda workers: pool(workers, mp_context=context)
    )
    opened = verify.opened
    monkeypatch.setattr(
        verify,
        "opened",
        lambda path, how: os._exit(11) if path.name == "5.jpg" else opened(path, how),
    )
    (tmp_path / "data/images/a").mkdir(parents=True)
    rows = []
    for number in range(12):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
        rows.append(
            {"path": str(tmp_path / f"{number}.jpg"), "label": "a", "sha256": f"{number:064}"[::-1]}
        )
    how = Preparation(max_size=100, min_size=8, max_pixels=10_000_000)
    results = list(verify.convert_all(Engine(), rows, how, quality=90))
    assert [number for number, result in enumerate(results) if "reason" in result] == [5]
    assert "its decoder crashed" in results[5]["detail"]
