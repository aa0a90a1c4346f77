"""What the frozen body sees in every picture: data/features.safetensors, written once, read often.

Three tensors of float32, one row per picture in the order of data/images.csv:

- `features` (N, F): what the head sees
- `mirrored` (N, F): the same of the mirror image
- `maps` (N, 2 C): mean and standard deviation of each channel of the last block's maps, a mean over
  the picture and its mirror image. They find more wrong labels than what the head sees: the layers
  after the last block are specialised in the thousand classes of ImageNet.

The header names the body by its hash, the architecture, and how the pictures became square. Rows
are written as they are computed, and only those asked for are read, so memory does not grow with
the pictures. The format: https://huggingface.co/docs/safetensors. This module imports no torch.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from pawprint.params import StageError
from pawprint.tables import read_table

FEATURES = Path("data/features.safetensors")
IMAGES = "data/images.csv"
KINDS = ("features", "mirrored", "maps")
AT_A_TIME = 1024  # rows read at a time

Rows = dict[str, np.ndarray]  # of each kind, float32 (n, columns)


def write_features(count: int, batches: Iterable[Rows], about: dict[str, str]) -> None:
    """Write the rows of `count` pictures, batch by batch; the file is whole or absent.

    about: what the header says beside the rows' hash.
    """
    FEATURES.parent.mkdir(parents=True, exist_ok=True)
    partial = FEATURES.with_name(f".{FEATURES.name}.partial")
    try:
        with open(partial, "wb") as file:
            first, done = 0, 0
            offsets: dict[str, int] = {}
            for batch in batches:
                if not offsets:
                    header, offsets = lay_out(count, batch, about)
                    file.write(header)
                    first = len(header)
                for kind in KINDS:
                    rows = np.ascontiguousarray(batch[kind], dtype="<f4")
                    file.seek(first + offsets[kind] + done * rows.shape[1] * 4)
                    file.write(rows.tobytes())
                done += len(batch[KINDS[0]])
            file.flush()
            os.fsync(file.fileno())
        partial.replace(FEATURES)
    finally:
        partial.unlink(missing_ok=True)


def lay_out(count: int, batch: Rows, about: dict[str, str]) -> tuple[bytes, dict[str, int]]:
    """Return the head of the file, and where the rows of each kind begin after it, in bytes."""
    header: dict[str, object] = {"__metadata__": about}
    offsets, end = {}, 0
    for kind in KINDS:
        columns = batch[kind].shape[1]
        offsets[kind], end = end, end + count * columns * 4
        header[kind] = {"dtype": "F32", "shape": [count, columns], "data_offsets": [0, 0]}
        header[kind]["data_offsets"] = [offsets[kind], end]  # type: ignore[index]
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text, offsets


def read_features(paths: Sequence[str], kind: str, body: str = "") -> np.ndarray:
    """Return the rows of `paths`, in their order, float32 (n, columns).

    kind: one of KINDS. body: the hash of the body that they should come from, if it matters.
    Raises StageError if the file is missing or damaged, or made from other pictures or another
    body.
    """
    again = "`dvc repro features` makes it again"
    known = read_table(IMAGES)["path"].tolist()
    try:
        with safe_open(FEATURES, framework="np") as file:
            about = file.metadata() or {}
            if about.get("rows") != hash_rows(known) or (body and about.get("body") != body):
                raise StageError(f"{FEATURES} was made from other pictures or weights: {again}")
            stored = file.get_slice(kind)
            return pick(stored, known, paths)
    except FileNotFoundError:
        raise StageError(f"{FEATURES} is missing: `dvc repro features` makes it") from None
    except SafetensorError:
        raise StageError(f"{FEATURES} is damaged: {again}") from None


def pick(stored: object, known: list[str], paths: Sequence[str]) -> np.ndarray:
    """Return the rows of `paths` of a slice of the file, whose rows are `known`."""
    count, columns = stored.get_shape()  # type: ignore[attr-defined]
    where = {path: i for i, path in enumerate(known)}
    missing = next((path for path in paths if path not in where), None)
    if missing is not None:
        raise StageError(f"{IMAGES} does not list {missing}; run `dvc repro`")
    wanted = np.array([where[path] for path in paths], dtype=np.int64)
    found = np.empty((len(paths), columns), dtype=np.float32)
    for start in range(0, count, AT_A_TIME):
        here = np.flatnonzero((wanted >= start) & (wanted < start + AT_A_TIME))
        if len(here):
            rows = stored[start : min(start + AT_A_TIME, count)]  # type: ignore[index]
            found[here] = rows[wanted[here] - start]
    return found


def hash_rows(paths: Iterable[str]) -> str:
    """Return a hash of the pictures' paths, in the order of the rows."""
    return hashlib.sha256("\n".join(paths).encode("utf-8", "surrogateescape")).hexdigest()
