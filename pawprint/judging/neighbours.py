"""Which pictures look alike to the frozen body, and a map of all: their features in two dimensions.

Features are read some thousand rows at a time, from a file or from an array, so memory does not
grow with the pictures.
"""

import importlib.util
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from pawprint.params import StageError
from pawprint.tables import iterate_rows
from pawprint.training.features import FEATURES, IMAGES, hash_rows

AT_A_TIME = 4096  # rows in memory
FITTED = 5000  # pictures from which the two dimensions of a map are found
AGAIN = "`dvc repro features` makes it again"


class Features(Protocol):
    """Features (N, F), read in pieces."""

    count: int

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the first row's number and rows, float32 (n, F), of one piece after the other."""

    def pick(self, rows: np.ndarray) -> np.ndarray:
        """Return some rows, float32 (n, F)."""


class FeatureArray:
    """Features that are in memory."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.count = rows, len(rows)

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        yield 0, self.rows

    def pick(self, rows: np.ndarray) -> np.ndarray:
        return self.rows[rows]


class FeatureFile:
    """What the head sees in the pictures of data/images.csv, in data/features.safetensors.

    The file is not mapped: pages of a mapping count as the process's memory.
    """

    def __init__(self, root: Path) -> None:
        """Open the file of the project in `root`.

        Raises StageError if it is missing, damaged, or made from other pictures.
        """
        self.path = root / FEATURES
        self.paths = list(image_paths(root / IMAGES))
        try:
            with open(self.path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
                entry = header["features"]
                self.count, self.width = entry["shape"]
                self.first = 8 + length + entry["data_offsets"][0]
                whole = os.fstat(file.fileno()).st_size >= self.first + self.count * self.width * 4
                if entry["dtype"] != "F32" or not whole:
                    raise ValueError(entry["dtype"])
        except FileNotFoundError:
            raise StageError(
                f"{FEATURES} is missing: `dvc repro features` makes it; similar pictures and the "
                "map are told by it"
            ) from None
        except (ValueError, KeyError, TypeError, OverflowError, MemoryError):
            raise StageError(f"{FEATURES} is damaged: {AGAIN}") from None
        if header.get("__metadata__", {}).get("rows") != hash_rows(self.paths):
            raise StageError(f"{FEATURES} was made from other pictures: {AGAIN}")

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        buffer = np.empty((min(AT_A_TIME, self.count), self.width), dtype="<f4")
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.first)
            for start in range(0, self.count, AT_A_TIME):
                part = buffer[: min(AT_A_TIME, self.count - start)]
                self._fill(file, part)
                yield start, part

    def pick(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), self.width), dtype="<f4")
        with open(self.path, "rb") as file:
            for row, part in zip(rows.tolist(), found, strict=True):
                file.seek(self.first + row * self.width * 4)
                self._fill(file, part)
        return found

    @staticmethod
    def _fill(file: io.RawIOBase | io.BufferedReader, part: np.ndarray) -> None:
        """Read until `part` is full. Raises StageError if the file ends before."""
        view = memoryview(part.data).cast("B")
        while len(view):
            count = file.readinto(view)
            if not count:
                raise StageError(f"{FEATURES} is damaged: {AGAIN}")
            view = view[count:]


def image_paths(path: Path) -> Iterator[str]:
    """Yield the column path of data/images.csv. Raises StageError if it is missing."""
    try:
        rows = iterate_rows(path)
        place = next(rows, []).index("path")
        for cells in rows:
            yield cells[place]
    except FileNotFoundError:
        raise StageError(f"{path} is missing: `dvc repro verify` makes it") from None
    except ValueError:
        raise StageError(f"{path}, line 1: lacks the column path; `dvc repro` makes it") from None


def nearest(
    features: Features, row: int, among: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are most like one, the nearest first, and their cosine distances.

    among: the rows to choose from; `row` itself is never one of the answer.
    """
    asked = features.pick(np.array([row]))[0]
    asked = asked / max(float(np.linalg.norm(asked)), 1e-12)
    distance = np.empty(features.count, dtype=np.float32)
    for start, part in features.chunks():
        length = np.sqrt(np.einsum("ij,ij->i", part, part))
        distance[start : start + len(part)] = 1 - (part @ asked) / np.maximum(length, 1e-12)
    among = among[among != row]
    order = np.lexsort((among, distance[among]))[:count]
    return among[order], distance[among[order]]


def has_umap() -> bool:
    """Return whether umap-learn is installed."""
    return importlib.util.find_spec("umap") is not None


def draw_map(features: Features, method: str) -> np.ndarray:
    """Return every row's place in two dimensions, float32 (N, 2).

    method: pca, the two directions in which the pictures differ most; or umap (McInnes et al.,
    arXiv:1802.03426), which keeps neighbours together, of the first 50 directions. Both are the
    same at every call. The directions are found from up to FITTED pictures, evenly spread.
    """
    from sklearn.decomposition import PCA  # takes a second, for which the review page would wait

    chosen = np.unique(np.linspace(0, features.count - 1, FITTED).astype(np.int64))
    sample = features.pick(chosen)
    most = 2 if method == "pca" else 50
    wanted = min(most, *sample.shape)
    pca = PCA(wanted, svd_solver="randomized", random_state=0).fit(sample)
    places = np.zeros((features.count, max(wanted, 2)), dtype=np.float32)
    for start, part in features.chunks():
        places[start : start + len(part), :wanted] = pca.transform(part)
    if method == "umap" and features.count > 3:
        from umap import UMAP

        near = min(15, features.count - 1)
        # a seed of its own makes it use one core; it is the same at every call then
        places = UMAP(n_neighbors=near, random_state=0, n_jobs=1).fit_transform(places)
    return places[:, :2].astype(np.float32)
