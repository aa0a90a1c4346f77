"""What `pawprint serve` writes down: the log of its answers, and the pictures it keeps."""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

COLUMNS = ("time", "model", "sha256", "prediction", "probability", "none", "none_score")
SPARE = 1_000_000_000  # bytes of disk that kept pictures leave free


class Log:
    """A CSV file of answers, one line per answer, with hashes of pictures, never pictures.

    Threads and processes append whole lines to it.
    """

    def __init__(self, path: Path, model: str) -> None:
        """Open a log of the model that `model_id` calls `model`.

        Exits with one line if `path` holds something else, or cannot be written.
        """
        self.path, self.model, self.lock = path, model, threading.Lock()
        try:
            with path.open("a+b") as file:
                file.seek(0)
                first = file.readline(200).decode("utf-8", "replace").strip()
        except OSError as error:
            sys.exit(f"pawprint: --log {path} cannot be written: {error.strerror}")
        if first and first != ",".join(COLUMNS):
            sys.exit(f"pawprint: --log {path} holds something else already; name another file")

    def add(self, sha256: str, answer: dict[str, Any]) -> None:
        """Append one answer. Raises OSError if it cannot be written, as on a full disk."""
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        row = csv_line(
            [
                now,
                self.model,
                sha256,
                answer["label"],
                f"{answer['probability']:.6f}",
                int(answer["none"]),
                f"{answer['none_score']:.6f}",
            ]
        )
        # opened for every line, so that the log may be moved away
        with self.lock, self.path.open("a+b", buffering=0) as file:
            end = file.seek(0, io.SEEK_END)
            before = "" if end else csv_line(COLUMNS)
            if end:
                file.seek(end - 1)
                # a full disk or a kill may have cut off the last line
                before = "" if file.read(1) == b"\n" else "\n"
            file.write((before + row).encode("utf-8"))


def csv_line(cells: Iterable[object]) -> str:
    """Return one line of CSV that ends in `\\n`. Cells that hold a `\\r` or `\\n` are quoted."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def model_id(export: Path) -> str:
    """Return a short name for exactly the model in an export folder: the start of its sha256.

    Exits with one line if it cannot be read.
    """
    path = export / "model.onnx"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError as error:
        sys.exit(
            f"pawprint: {path} cannot be read: {error.strerror}; `dvc repro` makes export/, "
            "or name another folder"
        )


def load_reference(export: Path) -> dict[str, Any]:
    """Return what the model said of the valid pictures.

    It holds pictures and none (how many), classes (how many of each) and confidence (sorted).
    Exits with one line if export/reference.json is missing or damaged.
    """
    path = export / "reference.json"
    try:
        reference = json.loads(path.read_text(encoding="utf-8"))
        counts = [*reference["classes"].values(), reference["none"], reference["pictures"]]
        sound = (
            all(isinstance(each, int) and each >= 0 for each in counts)
            and sum(reference["classes"].values()) > 0
            and 0 <= reference["none"] <= reference["pictures"]
            and len(reference["confidence"]) > 0
            and all(0 <= float(each) <= 1 for each in reference["confidence"])
        )
    except OSError as error:
        sys.exit(
            f"pawprint: {path} cannot be read: {error.strerror}; `dvc repro` makes export/, "
            "or name another folder"
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        sys.exit(
            f"pawprint: {path} is not what the stage export writes; "
            "`dvc repro --force export` makes it again"
        )
    return reference


class Keeper:
    """Keeps pictures as they came, in FOLDER/sure/LABEL/ or FOLDER/unsure/LABEL/.

    A file is named by the start of its sha256. Unsure means none of the classes, or a probability
    that only one in twenty valid pictures was below.
    """

    def __init__(self, folder: Path, export: Path) -> None:
        """Make the folder.

        Exits with one line if it cannot be made, or a class cannot be the name of a folder.
        """
        reference = load_reference(export)
        confidence = sorted(reference["confidence"])
        self.folder, self.sure = folder, confidence[int(0.05 * (len(confidence) - 1))]
        for label in reference["classes"]:
            if label in ("", ".", "..") or set(label) & set("/\\:\0"):
                sys.exit(
                    f"pawprint: --keep-images: the class {label!r} cannot be the name of a folder"
                )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            sys.exit(f"pawprint: --keep-images {folder} cannot be made: {error.strerror}")

    def keep(self, content: bytes, sha256: str, suffix: str, answer: dict[str, Any]) -> None:
        """Keep one picture. Raises OSError if it cannot be written, or would fill the disk."""
        kind = "unsure" if answer["none"] or answer["probability"] < self.sure else "sure"
        path = self.folder / kind / answer["label"] / f"{sha256[:16]}{suffix}"
        if path.exists():
            return
        if shutil.disk_usage(self.folder).free < SPARE + len(content):
            raise OSError(errno.ENOSPC, "less than a gigabyte is free", str(self.folder))
        path.parent.mkdir(parents=True, exist_ok=True)
        # whole or not at all
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".") as aside:
            (Path(aside) / path.name).write_bytes(content)
            os.replace(Path(aside) / path.name, path)
