"""What the page shows: the pictures with their figures from the stages' tables, and thumbnails."""

import io
import math
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

from pawprint.commands.web import RequestRefused
from pawprint.params import StageError
from pawprint.pictures import picture_name
from pawprint.pictures.opening import Preparation, Unusable, open_picture
from pawprint.tables import parse_rows

THUMBNAIL = 320  # pixels on the longer side: sharp at the page's 160 on a dense screen
FULL = 1600  # of the picture that is looked at closer

SPLIT = "data/split.csv"
SPLIT_COLUMNS = ("path", "label", "group", "split")

Row = dict[str, str]
Version = tuple[int, int, int]


def version_of(path: Path) -> Version:
    """Return what differs when a file was changed or replaced."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_rows(path: Path, *columns: str) -> tuple[Row, ...]:
    """Return a table's rows; none if the file is missing.

    Raises StageError if it is not a table with these columns.
    """
    try:
        return cached_rows(path, version_of(path), columns)
    except FileNotFoundError:
        return ()


@lru_cache(maxsize=32)
def cached_rows(path: Path, version: Version, columns: tuple[str, ...]) -> tuple[Row, ...]:
    """Read a table; again only when its file has changed."""
    table = parse_rows(path.read_bytes(), str(path))
    missing = [name for name in columns if name not in table.header]
    if missing:
        raise StageError(f"{path}, line 1: lacks the column {missing[0]}; `dvc repro` makes it")
    # a thousand classes have a thousand columns of probabilities, which the page does not show
    shown = [(i, name) for i, name in enumerate(table.header) if not name.startswith("p_")]
    return tuple({name: cells[i] for i, name in shown} for cells in table.rows)


def read_split(root: Path) -> tuple[Row, ...]:
    """Return the rows of data/split.csv."""
    return read_rows(root / SPLIT, *SPLIT_COLUMNS)


def pictures_by_name(root: Path) -> dict[str, Row]:
    """Return each picture's row of data/split.csv by the picture's name."""
    try:
        return cached_index(root / SPLIT, version_of(root / SPLIT))
    except FileNotFoundError:
        return {}


@lru_cache(maxsize=4)
def cached_index(path: Path, version: Version) -> dict[str, Row]:
    """Index data/split.csv; again only when it has changed, because every thumbnail asks for it."""
    return {picture_name(row["path"]): row for row in cached_rows(path, version, SPLIT_COLUMNS)}


def read_pictures(root: Path) -> list[dict[str, object]]:
    """Return the pictures as the page takes them, one per row of data/split.csv.

    Each has image, label, split; group, "" unless it has near duplicates; prediction, probability
    and loss from interpret; score, suggestion, distance and finding from clean; faults and severity
    from verify. Figures are None if they are not known.

    Raises StageError if a table is not understood.
    """
    data = root / "data"
    predictions = {row["path"]: row for row in read_rows(data / "predictions.csv", "path")}
    errors = {row["path"]: row for row in read_rows(data / "label_errors.csv", "path")}
    properties = {row["path"]: row for row in read_rows(data / "properties.csv", "path", "faults")}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in read_rows(data / "findings.csv", "path", "action", "reason"):
        if not row["reason"].startswith("decision"):
            found[row["path"]].append(f"{row['action']}, {row['reason']}")
    rows = read_split(root)
    sizes = Counter(row["group"] for row in rows)
    pictures: list[dict[str, object]] = []
    for row in rows:
        said, judged = predictions.get(row["path"], {}), errors.get(row["path"], {})
        measured = properties.get(row["path"], {})
        pictures.append(
            {
                "image": picture_name(row["path"]),
                "label": row["label"],
                "split": row["split"],
                "group": row["group"] if sizes[row["group"]] > 1 else "",
                "prediction": said.get("prediction", ""),
                "probability": number(said, "probability"),
                "loss": number(said, "loss"),
                "score": number(judged, "score"),
                "suggestion": judged.get("suggestion", ""),
                "distance": number(judged, "distance"),
                "finding": "; ".join(found[row["path"]]),
                "faults": measured.get("faults", "").replace(" ", ", ").replace("_", " "),
                "severity": number(measured, "severity"),
            }
        )
    return pictures


def read_correlations(root: Path) -> list[str]:
    """Return what clean found about whole classes, as sentences."""
    findings = read_rows(root / "data/findings.csv", "path", "action", "reason")
    return [row["reason"] for row in findings if not row["path"]]


def number(row: Row, column: str) -> float | None:
    """Return a number from a row; None if the cell is absent, empty, or not finite."""
    text = row.get(column)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise StageError(
            f"{column} of {row['path']} is {text!r}, not a number; `dvc repro` writes it again"
        ) from None
    return value if math.isfinite(value) else None


def picture_file(root: Path, image: str) -> Path:
    """Return the file of a picture. Raises RequestRefused (404) if split does not name it."""
    row = pictures_by_name(root).get(image)
    if row is None:
        raise RequestRefused(404, "this picture is not in data/split.csv")
    return root / row["path"]


def make_jpeg(path: Path, size: int) -> bytes:
    """Return a picture as a JPEG, at most `size` pixels on the longer side.

    Raises RequestRefused (404) if the file is missing or cannot be decoded.
    """
    try:
        image = open_picture(path, Preparation(max_size=size))
    except Unusable as why:
        raise RequestRefused(
            404, f"{path} cannot be read: {why.detail}; `dvc repro verify` makes it again"
        ) from None
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


@lru_cache(maxsize=2048)  # about 40 MB
def cached_thumbnail(path: Path, version: Version) -> bytes:
    """Return a picture's thumbnail as a JPEG; made again only when its file has changed."""
    return make_jpeg(path, THUMBNAIL)
