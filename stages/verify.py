"""Decode every gathered picture and keep the sound ones as upright RGB JPEGs.

Reads data/gathered.csv and data/raw. Writes data/images/LABEL/SHA.jpg, data/images.csv (one row
per picture kept, with its perceptual hash), data/rejected.csv (one row per picture refused, and
why) and metrics/verify.json.

Pictures are at most `verify.max_size` pixels on the longer side. Exact duplicates are kept once.
The same bytes under two labels are kept under neither, because only a person can say which label
is right. How a file is decoded: pawprint/pictures/decode.py.
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pawprint.compute import cores
from pawprint.params import StageError, load_params, run_stage
from pawprint.pictures.decode import Rejected, VerifyParams, decode, resize
from pawprint.pictures.hashing import perceptual_hash
from pawprint.tables import counts, read_table, write_json, write_table

IMAGES = Path("data/images")
KEPT = ["path", "label", "sha256", "width", "height", "phash", "url", "split", "group"]
REJECTED = ["url", "label", "path", "reason", "detail"]


def main() -> None:
    params = load_params("verify", VerifyParams)
    gathered = read_table("data/gathered.csv")
    rows = gathered[gathered["status"] == "ok"].to_dict("index")
    shutil.rmtree(IMAGES, ignore_errors=True)
    for label in sorted({row["label"] for row in rows.values()}):
        (IMAGES / label).mkdir(parents=True)

    # decode, resize and store all
    kept, rejected = [], refuse_unread(gathered)
    results = tqdm(convert_all(list(rows.values()), params), "verify", len(rows), unit="picture")
    for (index, row), result in zip(rows.items(), results, strict=True):
        (rejected if "reason" in result else kept).append({**row, "index": index, **result})

    # refuse those that are there twice
    repeats = refuse_repeats(pd.DataFrame(kept, columns=[*KEPT, "index"]))
    refused = {row["index"] for row in repeats}
    unique = [row for row in kept if row["index"] not in refused]
    for path in {row["path"] for row in kept} - {row["path"] for row in unique}:
        Path(path).unlink()
    rejected = sorted(rejected + repeats, key=lambda row: row["index"])
    write_results(pd.DataFrame(unique, columns=KEPT), rejected)


def refuse_unread(gathered: pd.DataFrame) -> list[dict]:
    """Return the rows that gather could not read at all."""
    failed = gathered[gathered["status"] != "ok"]
    return [
        {**row, "index": index, "reason": "not gathered", "detail": row["reason"]}
        for index, row in failed.iterrows()
    ]


def refuse_repeats(kept: pd.DataFrame) -> list[dict]:
    """Return the rows of exact duplicates but the first, and all rows of a picture with two labels."""
    refused = []
    for _, same in kept.groupby("sha256", sort=False):
        if same["label"].nunique() > 1:
            where = ", ".join(f"{row.label} ({row.url})" for row in same.itertuples())
            refused += [
                {**row, "reason": "two labels", "detail": f"the same bytes are labelled {where}"}
                for _, row in same.iterrows()
            ]
        else:
            refused += [
                {
                    **row,
                    "reason": "exact duplicate",
                    "detail": f"the same bytes as {same.iloc[0]['url']}",
                }
                for _, row in same.iloc[1:].iterrows()
            ]
    return refused


def convert_all(rows: list[dict[str, str]], params: VerifyParams) -> Iterator[dict[str, object]]:
    """Yield what `convert` returns for each row, in order, on all cores.

    A picture that crashes its decoder is `broken`.
    """
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
                yield {
                    "reason": "broken",
                    "detail": "its decoder crashed, or was ended for taking too much memory",
                }


def convert(row: dict[str, str], params: VerifyParams) -> dict[str, object]:
    """Decode, resize and store one picture.

    Returns the new columns of its row, or `reason` and `detail` if it is refused.
    """
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
        "phash": perceptual_hash(image),
    }


def write_results(kept: pd.DataFrame, rejected: list[dict]) -> None:
    """Write the tables and the counts. Raises StageError if there is nothing to tell apart."""
    if kept["label"].nunique() < 2:
        found = len(kept) + len(rejected)
        raise StageError(f"of {found} pictures, {len(kept)} can be used: too few; see data/raw")
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
