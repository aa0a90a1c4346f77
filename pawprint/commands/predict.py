"""`pawprint predict`: what the exported model says of files, folders and lists of files."""

import argparse
import csv
import glob
import io
import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TextIO

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from pawprint.commands.exported import load
from pawprint.compute import cores
from pawprint.exporting.shipped.predict import Classifier
from pawprint.pictures.formats import looks_like_picture

AHEAD = 32  # files that may be under way before the first of them is written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pawprint predict`."""
    parser.add_argument("export", type=Path, help="the exported folder")
    parser.add_argument(
        "paths",
        nargs="+",
        help="files, folders, patterns, or - for a list of files on standard input",
    )
    parser.add_argument(
        "--allow-urls", action="store_true", help="fetch http(s) addresses among the paths"
    )
    parser.add_argument("--format", choices=("table", "csv", "jsonl"), default="table")


def run(arguments: argparse.Namespace) -> None:
    """Write one row a file to standard output; exit code 1 where any could not be read."""
    files = list(find(arguments.paths))
    classifier = load(arguments.export, threads=0 if len(files) == 1 else 1)
    if not files:
        sys.exit(f"pawprint: no pictures in {', '.join(arguments.paths)}")
    rows = tqdm(
        ask(classifier, files, arguments.allow_urls),
        "predict",
        len(files),
        unit="picture",
        disable=len(files) < 2 * AHEAD,
    )
    failed = write(rows, arguments.format, classifier.config["classes"], sys.stdout)
    sys.exit(1 if failed else 0)


def find(paths: Iterable[str]) -> Iterator[str]:
    """The files that the arguments name, in order: a folder gives its pictures, a pattern its matches, sorted."""
    for path in paths:
        if is_url(path):
            yield path
        elif path == "-":
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        elif Path(path).is_dir():
            yield from (
                str(each)
                for each in sorted(Path(path).rglob("*"))
                if looks_like_picture(each.relative_to(path).as_posix())
            )
        elif not Path(path).exists() and (matches := sorted(glob.glob(path, recursive=True))):
            yield from matches
        else:
            yield path  # a file, or a name that becomes an error row


def is_url(path: str) -> bool:
    """Whether it is an address on the web."""
    return path.lower().startswith(("http://", "https://"))


def read(file: str, allow_urls: bool) -> str | io.BytesIO:
    """What PIL opens: the name of a file, or what stands at an address. Raises OSError where it may not, or cannot."""
    if not is_url(file):
        return file
    if not allow_urls:
        raise OSError(0, "an address on the web; --allow-urls fetches it")
    from pawprint.sources.web import fetch  # here: nothing else of predict needs a network

    return io.BytesIO(fetch(file))


def ask(classifier: Classifier, files: Iterable[str], allow_urls: bool = False) -> Iterator[dict]:
    """A row a file, in order: its name and the model's answer, or its name and an error.

    Each core decodes a file and asks the model about it alone: measured on 2 cores, batches of 32 took twice the time a
    picture, because what lies between the layers no longer fits the cache.
    """

    def row(file: str) -> dict:
        try:
            with Image.open(read(file, allow_urls)) as image:
                return {"file": file, **classifier(image)}
        except UnidentifiedImageError:
            return {"file": file, "error": "not a picture"}
        except Exception as error:  # decoders raise many kinds on a broken file
            why = getattr(error, "strerror", None) or " ".join(
                f"{type(error).__name__}: {error}".split()
            )
            return {"file": file, "error": why}

    remaining = iter(files)
    with ThreadPoolExecutor(cores()) as pool:
        under_way = deque(pool.submit(row, file) for file in islice(remaining, AHEAD))
        while under_way:
            yield under_way.popleft().result()
            under_way.extend(pool.submit(row, file) for file in islice(remaining, 1))


def write(rows: Iterable[dict], form: str, classes: list[str], to: TextIO) -> int:
    """Write the rows as they come; how many of them are errors."""
    failed = 0
    table = csv.writer(to, lineterminator="\n")
    if form == "csv":
        table.writerow(
            ["file", "label", "probability", "none", *(f"p_{name}" for name in classes), "error"]
        )
    for row in rows:
        failed += "error" in row
        if form == "jsonl":
            print(json.dumps(row, ensure_ascii=False), file=to)
        elif form == "csv":
            chances = row.get("probabilities", {})
            shares = [f"{chances[name]:.6f}" if chances else "" for name in classes]
            sure = (
                [f"{row['probability']:.6f}", "yes" if row["none"] else "no"]
                if chances
                else ["", ""]
            )
            table.writerow(
                [row["file"], row.get("label", ""), *sure, *shares, row.get("error", "")]
            )
        elif "error" in row:
            print(f"{row['file']}  error: {row['error']}", file=to)
        else:
            said = "none of these" if row["none"] else row["label"]
            print(f"{row['file']}  {said}  {row['probability']:.3f}", file=to)
    return failed
