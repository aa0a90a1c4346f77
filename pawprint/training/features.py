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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pawprint.params import StageError
from pawprint.tables import read_table, replacing

FEATURES = Path("data/features.safetensors")
IMAGES = "data/images.csv"
KINDS = ("features", "mirrored", "maps")
AT_A_TIME = 1024  # rows read at a time

Rows = dict[str, np.ndarray]  # of each kind, float32 (n, columns)


def write_features(count: int, batches: Iterable[Rows], about: dict[str, str]) -> None:
    """Write the rows of `count` pictures, batch by batch; the file is whole or absent.

    about: what the header says beside the rows' hash.
    """
    first, done = 0, 0
    offsets: dict[str, int] = {}
    with replacing(FEATURES, durable=True) as file:
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


def lay_out(count: int, batch: Rows, about: dict[str, str]) -> tuple[bytes, dict[str, int]]:
    """Return the head of the file, and where the rows of each kind begin after it, in bytes."""
    header: dict[str, object] = {"__metadata__": about}
    offsets, end = {}, 0
    for kind in KINDS:
        columns = batch[kind].shape[1]
        offsets[kind], end = end, end + count * columns * 4
        place = [offsets[kind], end]
        header[kind] = {"dtype": "F32", "shape": [count, columns], "data_offsets": place}
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text, offsets


def read_features(paths: Sequence[str], kind: str, body: str = "") -> np.ndarray:
    """Return the rows of `paths`, in their order, float32 (n, columns).

    kind: one of KINDS. body: the hash of the body that they should come from, if it matters.
    Raises StageError if the file is missing or damaged, or made from other pictures or another
    body.
    """
    found = np.empty((0, 0), dtype=np.float32)
    for where, rows in FeatureRows(paths, body).blocks(kind):
        if found.shape[1] != rows[kind].shape[1]:
            found = np.empty((len(paths), rows[kind].shape[1]), dtype=np.float32)
        found[where] = rows[kind]
    return found


class FeatureRows:
    """The rows of `paths` in the file; data/images.csv is read once for all of them.

    paths, body: as for `read_features`. Raises StageError likewise.
    """

    def __init__(self, paths: Sequence[str], body: str = "") -> None:
        known = read_table(IMAGES)["path"].tolist()
        self.body, self.hash = body, hash_rows(known)
        where = {path: i for i, path in enumerate(known)}
        self.missing = next((path for path in paths if path not in where), None)
        self.rows = np.array([where.get(path, -1) for path in paths], dtype=np.int64)

    def blocks(self, *kinds: str) -> Iterator[tuple[np.ndarray, Rows]]:
        """Yield indexes of `paths`, (n,), and their rows of each kind, until all have come once.

        They come in the order of the file. Without paths, one block comes that is empty.
        """
        again = "`dvc repro features` makes it again"
        try:
            with safe_open(FEATURES, framework="np") as file:
                about = file.metadata() or {}
                if about.get("rows") != self.hash or (self.body and about.get("body") != self.body):
                    raise StageError(f"{FEATURES} was made from other pictures or weights: {again}")
                if self.missing is not None:
                    raise StageError(f"{IMAGES} does not list {self.missing}; run `dvc repro`")
                yield from self._read({kind: file.get_slice(kind) for kind in kinds})
        except FileNotFoundError:
            raise StageError(f"{FEATURES} is missing: `dvc repro features` makes it") from None
        except SafetensorError:
            raise StageError(f"{FEATURES} is damaged: {again}") from None

    def _read(self, stored: dict[str, Any]) -> Iterator[tuple[np.ndarray, Rows]]:
        """Yield the blocks; stored: the slice of the file of each kind."""
        order = np.argsort(self.rows, kind="stable")
        ordered = self.rows[order]
        block = ordered // AT_A_TIME
        for here in np.split(order, np.flatnonzero(np.diff(block)) + 1):
            start = int(self.rows[here[0]]) // AT_A_TIME * AT_A_TIME if len(here) else 0
            found = {}
            for kind, rows in stored.items():
                part = rows[start : min(start + AT_A_TIME, rows.get_shape()[0])]
                found[kind] = part[self.rows[here] - start]
            yield here, found


def hash_rows(paths: Iterable[str]) -> str:
    """Return a hash of the pictures' paths, in the order of the rows."""
    return hashlib.sha256("\n".join(paths).encode("utf-8", "surrogateescape")).hexdigest()
