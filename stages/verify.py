"""Decode every gathered picture and keep the sound ones as upright RGB JPEGs of at most `verify.max_size` pixels.

Reads data/gathered.csv and data/raw. Writes data/images/LABEL/SHA.jpg, data/images.csv (a row a picture kept, with its
perceptual hash), data/rejected.csv (a row a picture refused, and why) and metrics/verify.json.

A picture is decoded to its last byte: a header says nothing of a download that was cut short. What a file is called
does not matter, only what it holds. Exact duplicates are kept once; the same bytes under two labels are kept under
neither, because only a person can say which label is right.
The perceptual hash is imagehash's `phash` (Zauner, "Implementation and benchmarking of perceptual image hash
functions", 2010): 64 bits, in which pictures that look the same differ little; split keeps such pictures on one side.
"""

import os
import shutil
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import imagehash
import pandas as pd
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field
from tqdm import tqdm

from stages.params import Params, StageError, load_params, run_stage
from stages.tables import counts, read_table, write_json, write_table

IMAGES = Path("data/images")
KEPT = ["path", "label", "sha256", "width", "height", "phash", "url", "split", "group"]
REJECTED = ["url", "label", "path", "reason", "detail"]


class VerifyParams(Params):
    """The section `verify` of params.yaml."""

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
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(partial(convert, params=params), rows.values(), chunksize=8)
        for (index, row), result in zip(rows.items(), tqdm(results, "verify", len(rows), unit="picture"), strict=True):
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


def convert(row: dict[str, str], params: VerifyParams) -> dict[str, object]:
    """Decode, turn upright, shrink and store one picture; the new columns of its row, or `reason` and `detail`."""
    try:
        image = shrink(decode(Path(row["path"]), params), params.max_size)
    except Rejected as why:
        return {"reason": why.args[0], "detail": why.args[1]}
    path = IMAGES / row["label"] / f"{row['sha256'][:16]}.jpg"
    image.save(path, "JPEG", quality=params.quality, subsampling="4:2:0", optimize=False)
    return {
        "path": path.as_posix(),
        "width": image.width,
        "height": image.height,
        "phash": str(imagehash.phash(image)),
    }


def decode(path: Path, params: VerifyParams) -> Image.Image:
    """Decode a whole picture, first frame, upright, as RGB on white.

    Raises Rejected: `empty`, `not a picture`, `too large`, `broken`, `too small`.
    """
    if path.stat().st_size == 0:
        raise Rejected("empty", "the file has 0 bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.MAX_IMAGE_PIXELS = None
        try:
            with Image.open(path) as image:
                if image.width * image.height > params.max_pixels:
                    raise Rejected(
                        "too large", f"{image.width} x {image.height}; verify.max_pixels is {params.max_pixels}"
                    )
                image.draft("RGB", (2 * params.max_size, 2 * params.max_size))
                image.load()
                image = to_rgb(ImageOps.exif_transpose(image))
        except UnidentifiedImageError:
            raise Rejected("not a picture", f"begins with {path.open('rb').read(16)!r}") from None
        except Rejected:
            raise
        except (
            Exception
        ) as error:  # decoders raise almost anything on a broken file: OSError, SyntaxError, struct.error …
            raise Rejected("broken", " ".join(f"{type(error).__name__}: {error}".split())) from None
    if min(image.size) < params.min_size:
        raise Rejected("too small", f"{image.width} x {image.height}; verify.min_size is {params.min_size}")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: transparency is laid on white, 16 bits are scaled to 8."""
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        _, high = image.getextrema()
        scale = 255 / (65535 if image.mode.startswith("I;16") or high > 255 else 255)
        return image.convert("F").point(lambda value: value * scale).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def shrink(image: Image.Image, max_size: int) -> Image.Image:
    """Scale down so that the longer side has at most `max_size` pixels; never up."""
    scale = max_size / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


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
