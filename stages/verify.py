"""Decode every gathered picture and keep the sound ones as upright RGB JPEGs of at most `verify.max_size` pixels.

Reads data/gathered.csv and data/raw. Writes data/images/LABEL/SHA.jpg, data/images.csv (a row a picture kept, with its
perceptual hash), data/rejected.csv (a row a picture refused, and why) and metrics/verify.json.

A picture is decoded to its last byte: a header says nothing of a download that was cut short. What a file is called
does not matter, only what it holds. Large JPEGs are decoded at a half, a quarter or an eighth of their size where that
still is at least the size wanted (libjpeg's scaled inverse DCT, Pillow's `draft`); all their bytes are read even so.
Exact duplicates are kept once; the same bytes under two labels are kept under neither, because only a person can say
which label is right.
The perceptual hash is imagehash's `phash` (Zauner, "Implementation and benchmarking of perceptual image hash
functions", 2010): 64 bits, in which pictures that look the same differ little; split keeps such pictures on one side.
"""

import math
import os
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Literal

import imagehash
import pandas as pd
import scipy.fftpack  # noqa: F401  (imagehash would import it in every process)
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from pydantic import Field
from tqdm import tqdm

from stages.params import Params, StageError, load_params, run_stage
from stages.tables import counts, read_table, write_json, write_table

IMAGES = Path("data/images")
# What decoders are tried. Others that Pillow knows start programs (EPS) or are no formats of pictures on the web.
Image.init()
FORMATS = tuple(
    form
    for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "TGA", "PCX")
    if form in Image.OPEN  # AVIF came late to Pillow
)
# Sharper than bilinear at the same cost, and half that of Lanczos: for scaling down, where nothing is to be invented.
FILTER = Image.Resampling.HAMMING
KEPT = ["path", "label", "sha256", "width", "height", "phash", "url", "split", "group"]
REJECTED = ["url", "label", "path", "reason", "detail"]


class VerifyParams(Params):
    """The section `verify` of params.yaml."""

    resize: Literal["shrink", "crop", "pad", "squish"] = "shrink"
    max_size: int = Field(ge=32, le=4096)
    min_size: int = Field(ge=1, le=1024)
    quality: int = Field(ge=50, le=100)
    max_pixels: int = Field(ge=1_000_000)


class Rejected(Exception):
    """Why a picture is refused: a reason to count by, and a detail to read."""


def main() -> None:
    params = load_params("verify", VerifyParams)
    gathered = read_table("data/gathered.csv")
    rows = gathered[gathered["status"] == "ok"].to_dict("index")
    shutil.rmtree(IMAGES, ignore_errors=True)
    for label in sorted({row["label"] for row in rows.values()}):
        (IMAGES / label).mkdir(parents=True)
    kept, rejected = [], refuse_unread(gathered)
    results = tqdm(convert_all(list(rows.values()), params), "verify", len(rows), unit="picture")
    for (index, row), result in zip(rows.items(), results, strict=True):
        (rejected if "reason" in result else kept).append({**row, "index": index, **result})
    repeats = refuse_repeats(pd.DataFrame(kept, columns=[*KEPT, "index"]))
    refused = {row["index"] for row in repeats}
    unique = [row for row in kept if row["index"] not in refused]
    for path in {row["path"] for row in kept} - {row["path"] for row in unique}:
        Path(path).unlink()
    write_results(pd.DataFrame(unique, columns=KEPT), sorted(rejected + repeats, key=lambda row: row["index"]))


def refuse_unread(gathered: pd.DataFrame) -> list[dict]:
    """Rows that gather could not read at all."""
    failed = gathered[gathered["status"] != "ok"]
    return [
        {**row, "index": index, "reason": "not gathered", "detail": row["reason"]} for index, row in failed.iterrows()
    ]


def refuse_repeats(kept: pd.DataFrame) -> list[dict]:
    """Pictures whose bytes stand in an earlier row, and every row of a picture that stands under two labels."""
    refused = []
    for _, same in kept.groupby("sha256", sort=False):
        if same["label"].nunique() > 1:
            where = ", ".join(f"{row.label} ({row.url})" for row in same.itertuples())
            refused += [
                {**row, "reason": "two labels", "detail": f"the same bytes stand under {where}"}
                for _, row in same.iterrows()
            ]
        else:
            refused += [
                {**row, "reason": "exact duplicate", "detail": f"the same bytes as {same.iloc[0]['url']}"}
                for _, row in same.iloc[1:].iterrows()
            ]
    return refused


def cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def convert_all(rows: list[dict[str, str]], params: VerifyParams) -> Iterator[dict[str, object]]:
    """What `convert` makes of each row, in order, on all cores; a picture that crashes its decoder is `broken`."""
    done = 0
    try:
        with ProcessPoolExecutor(cores()) as pool:
            for result in pool.map(partial(convert, params=params), rows, chunksize=4):
                yield result
                done += 1
    except BrokenProcessPool:
        for row in rows[done:]:
            try:
                with ProcessPoolExecutor(1) as pool:
                    yield pool.submit(convert, row, params).result()
            except BrokenProcessPool:
                yield {"reason": "broken", "detail": "its decoder crashed, or was ended for taking too much memory"}


def convert(row: dict[str, str], params: VerifyParams) -> dict[str, object]:
    """Decode, turn upright, resize and store one picture; the new columns of its row, or `reason` and `detail`."""
    try:
        image = resize(*decode(Path(row["path"]), params), params)
    except Rejected as why:
        return {"reason": why.args[0], "detail": why.args[1]}
    path = IMAGES / row["label"] / f"{row['sha256'][:16]}.jpg"
    try:
        image.save(path, "JPEG", quality=params.quality, subsampling="4:2:0", optimize=False)
    except OSError as error:
        error.filename = path.as_posix()  # which a full disk leaves out
        raise
    return {
        "path": path.as_posix(),
        "width": image.width,
        "height": image.height,
        "phash": str(imagehash.phash(thumbnail(image))),
    }


def thumbnail(image: Image.Image) -> Image.Image:
    """The 32 x 32 grey pixels that `phash` looks at, made in a third of its time and nearly as faithfully."""
    return image.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=4.0)


def decode(path: Path, params: VerifyParams) -> tuple[Image.Image, tuple[int, int]]:
    """Decode a whole picture, first frame, upright, as RGB on white; with it the size it has at full scale.

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
    except Exception as error:  # decoders raise almost anything on a broken file: OSError, SyntaxError, struct.error …
        raise Rejected("broken", " ".join(f"{type(error).__name__}: {error}".split())) from None


def read(path: Path, params: VerifyParams) -> tuple[Image.Image, tuple[int, int]]:
    Image.MAX_IMAGE_PIXELS = None  # the size is judged here, with a reason that names the parameter
    with Image.open(path, formats=FORMATS) as image:
        size = image.size
        if image.width * image.height > params.max_pixels:
            raise Rejected("too large", f"{image.width} x {image.height}; verify.max_pixels is {params.max_pixels}")
        Image.MAX_IMAGE_PIXELS = params.max_pixels // 2  # Pillow refuses twice as many: pictures inside icons, and such
        image.draft("RGB", enough(size, params))
        image.load()
        lying = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        if ExifTags.Base.Orientation in image.getexif():
            image = ImageOps.exif_transpose(image)
        image = to_rgb(image)
    if min(size) < params.min_size:
        raise Rejected("too small", f"{size[0]} x {size[1]}; verify.min_size is {params.min_size}")
    return image, size[::-1] if lying else size


def enough(size: tuple[int, int], params: VerifyParams) -> tuple[int, int]:
    """How large a picture of this size must be decoded so that resizing it scales nothing up."""
    side = max(size) if params.resize in ("shrink", "pad") else min(size)
    scale = min(1.0, params.max_size / side)
    return max(1, math.ceil(size[0] * scale)), max(1, math.ceil(size[1] * scale))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: transparency is laid on white, 16 bits and floats are scaled to 8."""
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        return to_eight_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")  # type: ignore[return-value]
    return image if image.mode == "RGB" else image.convert("RGB")


def to_eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 or 32 bits or floats as 8 bits. What counts as white is 65535, or 1 for floats up to 1."""
    _, high = image.getextrema()
    white = 255.0
    if image.mode.startswith("I;16") or (image.mode == "I" and high > 255):
        white = 65535.0
    elif image.mode == "F" and not 1 < high <= 255:
        white = float(high) if high > 255 else 1.0
    return image.convert("F").point(lambda value: value * (255 / white)).convert("L")


def resize(image: Image.Image, full: tuple[int, int], params: VerifyParams) -> Image.Image:
    """Scale down as `verify.resize` says. Only `squish` may stretch the shorter side; nothing else is scaled up.

    full: the picture's own size, of which `image` may be a smaller rendering with rounded sides.
    shrink: the whole picture, its longer side at most `max_size`. The others give squares: crop, the middle; pad, the
    whole picture on black; squish, the whole picture out of proportion.
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


def write_results(kept: pd.DataFrame, rejected: list[dict]) -> None:
    if kept["label"].nunique() < 2:
        raise StageError(f"of {len(kept) + len(rejected)} pictures, {len(kept)} can be used: too few; see data/raw")
    reasons = pd.DataFrame(rejected, columns=REJECTED)
    write_table("data/images.csv", kept)
    write_table("data/rejected.csv", reasons)
    write_json(
        "metrics/verify.json",
        {
            "kept": len(kept),
            "rejected": len(reasons),
            "reasons": counts(reasons["reason"]),
            "labels": counts(kept["label"]),
        },
    )


if __name__ == "__main__":
    run_stage(main)
