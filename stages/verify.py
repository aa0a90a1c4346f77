"""Decode every gathered picture and keep the sound ones as upright RGB JPEGs.

Reads data/gathered.csv and data/raw. Writes data/images/LABEL/SHA.jpg, data/images.csv (one row
per picture kept, with its perceptual hash), data/properties.csv (its brightness, sharpness, size …,
and its faults), data/rejected.csv (one row per picture refused, and why) and metrics/verify.json.

Pictures are at most `verify.max_size` pixels on the longer side. A JPEG that is small enough, RGB
and upright already keeps its pixels to the last bit, and loses its metadata. Exact duplicates are
kept once. The same bytes under two labels are kept under neither, because only a person can say
which label is right. How a file is decoded: pawprint/pictures/opening.py. Pictures of more than 8
bits get one range for the whole data set, from their values or from `verify.range`. A dark or
blurred picture is kept: its faults are listed for a person, see pawprint/pictures/properties.py.
"""

import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from tqdm import tqdm

from pawprint.compute.choice import open_engine
from pawprint.compute.engine import Engine
from pawprint.compute.settings import EngineParams
from pawprint.params import StageError, listed, load_params, run_stage
from pawprint.pictures.hashing import perceptual_hash
from pawprint.pictures.lossless import strip_jpeg
from pawprint.pictures.opening import (
    AS_STORED,
    Preparation,
    Range,
    Unusable,
    open_picture,
    opened,
    prepare,
)
from pawprint.pictures.properties import find_faults, measure
from pawprint.pictures.storing import VerifyParams, measure_deep, ranges_of
from pawprint.tables import counts, read_table, write_json, write_table

IMAGES = Path("data/images")
KEPT = ["path", "label", "sha256", "width", "height", "phash", "url", "split", "group"]
NEEDED = ("path", "label", "sha256")  # of a row, to convert its picture
REJECTED = ["url", "label", "path", "reason", "detail"]
DARK, LIGHT = 25, 230  # a deep picture that is all darker, or all lighter, has the wrong range
RARE = 3  # files; a class of fewer may turn out to have no picture
KINDS = ("unsigned", "signed", "float")

Row = dict[str, Any]


def main() -> None:
    params = load_params("verify", VerifyParams)
    engine = open_engine(load_params("compute", EngineParams))
    gathered = read_table("data/gathered.csv")
    rows = gathered[gathered["status"] == "ok"].to_dict("index")
    shutil.rmtree(IMAGES, ignore_errors=True)
    for label in sorted({row["label"] for row in rows.values()}):
        (IMAGES / label).mkdir(parents=True)

    # decode, resize and store all
    ranges = {} if params.range == "auto" else dict.fromkeys(KINDS, params.range)
    results = convert_rows(engine, rows, params, ranges)

    # deep pictures wait for their range, which is one for all
    deep = {index: result["deep"] for index, result in results.items() if "deep" in result}
    if deep and params.range == "auto":
        ranges = ranges_of(deep.values())
        results |= convert_rows(engine, {index: rows[index] for index in deep}, params, ranges)

    kept: list[Row] = []
    rejected = refuse_unread(gathered)
    for index, row in rows.items():
        result = results[index]
        (rejected if "reason" in result else kept).append({**row, "index": index, **result})

    # refuse those that are there twice
    repeats = refuse_repeats(pd.DataFrame(kept, columns=[*KEPT, "index"]))
    refused = {row["index"] for row in repeats}
    unique = [row for row in kept if row["index"] not in refused]
    for path in {row["path"] for row in kept} - {row["path"] for row in unique}:
        Path(path).unlink()
    rejected = sorted(rejected + repeats, key=lambda row: row["index"])

    measured = [{"url": row["url"], **row["measured"]} for row in unique]
    properties = find_faults(pd.DataFrame(measured))

    # the report comes first, so that it can be read if the stage fails
    images, reasons = pd.DataFrame(unique, columns=KEPT), pd.DataFrame(rejected, columns=REJECTED)
    write_table("data/rejected.csv", reasons)
    write_json(
        "metrics/verify.json",
        {
            "kept": len(images),
            "rejected": len(reasons),
            "reasons": counts(reasons["reason"]),
            "labels": counts(images["label"]),
            "faults": counts(" ".join(properties["faults"]).split()),
            **({"ranges": ranges} if deep else {}),
        },
    )
    refuse_lost_classes(images, reasons)
    stored = [row["path"] for row in unique if row["index"] in deep]
    refuse_extremes(stored, ranges)
    write_table("data/images.csv", images)
    write_table("data/properties.csv", properties)


def convert_rows(
    engine: Engine, rows: dict[Any, Row], params: VerifyParams, ranges: dict[str, Range]
) -> dict[Any, Row]:
    """Return what `convert` returns for each row, by the row's index."""
    how = params.preparation(ranges)
    results = convert_all(engine, list(rows.values()), how, params.quality)
    shown = tqdm(results, "verify", len(rows), unit="picture")
    return dict(zip(rows, shown, strict=True))


def refuse_unread(gathered: pd.DataFrame) -> list[Row]:
    """Return the rows that gather could not read at all."""
    failed = gathered[gathered["status"] != "ok"]
    return [
        {**row, "index": index, "reason": "not gathered", "detail": row["reason"]}
        for index, row in failed.iterrows()
    ]


def refuse_repeats(kept: pd.DataFrame) -> list[Row]:
    """Return exact duplicates but the first, and every row of a picture with two labels."""
    refused: list[Row] = []
    repeated = kept[kept.duplicated("sha256", keep=False)]
    for _, same in repeated.groupby("sha256", sort=False):
        rows = same.to_dict("records")
        if same["label"].nunique() > 1:
            where = ", ".join(f"{row['label']} ({row['url']})" for row in rows)
            why = {"reason": "two labels", "detail": f"the same bytes are labelled {where}"}
            refused += [{**row, **why} for row in rows]
        else:
            detail = f"the same bytes as {rows[0]['url']}"
            why = {"reason": "exact duplicate", "detail": detail}
            refused += [{**row, **why} for row in rows[1:]]
    return refused


def convert_all(engine: Engine, rows: list[Row], how: Preparation, quality: int) -> Iterator[Row]:
    """Yield what `convert` returns for each row, in order.

    A picture that crashes its decoder is `broken`.
    """
    work = partial(convert, how=how, quality=quality)
    needed = [{name: row[name] for name in NEEDED} for row in rows]
    return engine.map(
        work,
        needed,
        pool="processes",
        chunk=4,
        reads=lambda row: [row["path"]],
        writes=stored_files,
        crashed=lambda: {
            "reason": "broken",
            "detail": "its decoder crashed, or was ended for taking too much memory",
        },
    )


def stored_files(result: Row) -> list[str]:
    """Return the file that `convert` has written for a picture, if it has."""
    return [result["path"]] if "path" in result else []


def convert(row: Row, how: Preparation, quality: int) -> Row:
    """Decode, resize and store one picture.

    Returns the new columns of its row, or `reason` and `detail` if it is refused. Of a picture of
    more than 8 bits also `deep`, as `measure_deep` gives it, and nothing else if `how` has no range
    for it.
    """
    file = Path(row["path"])
    try:
        with opened(file, how) as source:
            deep = measure_deep(source)
            if deep and deep[0] not in how.ranges:
                return {"deep": deep}
            image, full = prepare(source, how)
    except Unusable as why:
        return {"reason": why.reason, "detail": why.detail}
    path = IMAGES / row["label"] / f"{row['sha256'][:16]}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        store(image, file, path, quality)
    except OSError as error:
        error.filename = path.as_posix()  # which a full disk leaves out
        raise
    grey = image.convert("L")
    return {
        "path": path.as_posix(),
        "width": image.width,
        "height": image.height,
        "phash": perceptual_hash(grey),
        "measured": {"path": path.as_posix(), **measure(image, full, grey)},
        **({"deep": deep} if deep else {}),
    }


def store(image: Image.Image, file: Path, path: Path, quality: int) -> None:
    """Write an opened picture as JPEG; one whose file holds the very same pixels is not encoded.

    image: the file's own image object if it was neither converted, scaled nor turned.
    """
    own = isinstance(image, JpegImageFile) and image.info.get("adobe_transform", 1) == 1
    stripped = strip_jpeg(file.read_bytes(), image.size) if own else None
    if stripped is None:
        image.save(path, "JPEG", quality=quality, subsampling="4:2:0", optimize=False)
    else:
        path.write_bytes(stripped)


def refuse_lost_classes(images: pd.DataFrame, rejected: pd.DataFrame) -> None:
    """Raise StageError if a class had files and has no pictures, or if fewer than two are left.

    A rare class, of fewer than RARE files, is no reason to stop: stderr names it.
    """
    gone = set(rejected["label"]) - set(images["label"])
    why = {str(label): each for label, each in rejected.groupby("label")["reason"] if label in gone}
    rare = [f"{label} ({each.iloc[0]})" for label, each in why.items() if len(each) < RARE]
    for label, reasons in why.items():
        if len(reasons) >= RARE:
            commonest = reasons.value_counts()
            raise StageError(
                f"class '{label}': none of its {len(reasons)} files can be used, most often "
                f"because of '{commonest.index[0]}' ({commonest.iloc[0]}); see data/rejected.csv"
            )
    if images["label"].nunique() < 2:
        found = len(images) + len(rejected)
        raise StageError(f"of {found} pictures, {len(images)} can be used: too few; see data/raw")
    if rare:
        said = f"verify: {len(rare)} class(es) without a usable file: {listed(rare)}"
        print(said, file=sys.stderr)


def refuse_extremes(stored: list[str], ranges: dict[str, Range]) -> None:
    """Raise StageError if most of the deep pictures come out nearly black or nearly white.

    stored: their files under data/images. One pixel of a hundred may be anything.
    """
    dark = light = 0
    for path in stored:
        grey = np.asarray(open_picture(path, AS_STORED).convert("L"))
        lowest, highest = np.percentile(grey, [1, 99])
        dark, light = dark + (highest <= DARK), light + (lowest >= LIGHT)
    word, count = ("black", dark) if dark >= light else ("white", light)
    if count > len(stored) / 2:
        used = ", ".join(f"{kind} {low:g} to {high:g}" for kind, (low, high) in ranges.items())
        raise StageError(
            f"{count} of {len(stored)} pictures of more than 8 bits come out nearly {word} (range: "
            f"{used or 'from their tags'}); set verify.range to their lowest and highest value"
        )


if __name__ == "__main__":
    run_stage(main)
