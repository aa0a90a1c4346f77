"""`pawprint predict`: what the exported model says of files, folders and lists of files."""

import argparse
import glob
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from pawprint.commands.answers import csv_line
from pawprint.commands.explanations import Explanations
from pawprint.commands.exported import MODEL, add_runtime, load
from pawprint.commands.runtimes import SPARE
from pawprint.compute.engine import AHEAD, CHOICE, Engine
from pawprint.exporting.shipped.predict import Classifier
from pawprint.pictures.formats import looks_like_picture
from pawprint.pictures.opening import Unusable

TOGETHER = 16  # files that travel to a worker of a cluster at a time

Row = dict[str, Any]  # the file, and the model's answer or an error
Ask = Callable[[str | io.BytesIO], Row]  # the model, asked about one picture
CLASSIFIERS: dict[str, Classifier] = {}  # in a worker: the model that has come to it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pawprint predict`."""
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
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="DIR",
        help="write DIR/index.html, a page that says why; needs export.explain: true",
    )
    add_runtime(parser)
    parser.add_argument(
        "--engine", choices=("local", "ray"), help="where; ray: the workers of a Ray cluster"
    )
    parser.add_argument(
        "--address", default="auto", help="of the cluster: auto, HOST:PORT or ray://HOST:PORT"
    )


def run(arguments: argparse.Namespace) -> None:
    """Write one row per file to standard output; exit code 1 if any could not be read."""
    # names of files need not be text in this locale: they are read and written all the same
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    files = list(find_files(arguments.paths))
    if not files:
        sys.exit(f"pawprint: there are no pictures in {', '.join(arguments.paths)}")
    threads = 0 if len(files) == 1 else 1
    classifier = load(arguments.export, threads, arguments.runtime)
    ask: Ask = classifier
    if arguments.explain:
        explanations = Explanations(classifier, arguments.export, arguments.explain)
        ask = explanations.ask
    engine = engine_of(arguments)
    if engine.is_remote and arguments.explain:
        sys.exit("pawprint: --explain computes on this machine; leave out --engine ray")
    if engine.is_remote:
        answers = answer_on_cluster(engine, arguments, files)
    else:
        spare = SPARE[arguments.runtime]
        answers = answer_files(ask, files, arguments.allow_urls, spare)
    rows: Iterable[Row] = tqdm(
        answers,
        "predict",
        len(files),
        unit="picture",
        disable=len(files) < 2 * AHEAD,
    )
    if arguments.explain:
        rows = explanations.collect(rows)
    failed = write_rows(rows, arguments.format, classifier.config["classes"], sys.stdout)
    if arguments.explain:
        explanations.write()
    sys.exit(1 if failed else 0)


def engine_of(arguments: argparse.Namespace) -> Engine:
    """Return what the work is done with. A container of the page has what this machine needs."""
    if (arguments.engine or os.environ.get(CHOICE) or "local") == "local":
        return Engine()
    from pawprint.compute.choice import open_engine
    from pawprint.compute.settings import EngineParams

    return open_engine(EngineParams(address=arguments.address), arguments.engine)


def find_files(paths: Iterable[str]) -> Iterator[str]:
    """Yield the files that the arguments name, in order.

    A folder gives its pictures, and a pattern its matches, sorted. A name that leads nowhere is
    yielded too: it becomes a row with an error.
    """
    for path in paths:
        if path == "-":
            lines = (line.strip("\r\n\ufeff") for line in sys.stdin)
            yield from (line for line in lines if line.strip())
        elif not is_url(path) and not os.path.lexists(path) and (matches := find_matches(path)):
            for match in matches:
                yield from pictures_in(match) if os.path.isdir(match) else [match]
        else:
            yield from pictures_in(path) if os.path.isdir(path) else [path]


def find_matches(pattern: str) -> list[str]:
    """Return the files and folders that match a pattern, sorted; those of a link's loop once."""
    first: dict[str, str] = {}
    for match in sorted(glob.glob(pattern, recursive=True), key=lambda each: (len(each), each)):
        folder, name = os.path.split(match)
        first.setdefault(os.path.join(os.path.realpath(folder), name), match)
    return sorted(first.values())


def pictures_in(folder: str) -> list[str]:
    """Return the pictures in a folder and those in it, sorted by path.

    Links to folders are followed, each folder once. Hidden files are passed over.
    """
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(place)
        if here in seen:  # a link leads back
            folders.clear()
            continue
        seen.add(here)
        folders.sort()
        for name in names:
            path = os.path.join(place, name)
            inside = os.path.relpath(path, folder).replace(os.sep, "/")
            if looks_like_picture(inside) and not is_special(path):
                found.append(path)
    return sorted(found, key=lambda path: path.split(os.sep))


def is_special(path: str) -> bool:
    """Return whether a path is a pipe or a device, which might be read for ever."""
    return os.path.exists(path) and not os.path.isfile(path)


def is_url(path: str) -> bool:
    """Return whether a path is an address on the web."""
    return path.lower().startswith(("http://", "https://"))


def content_of(file: str, allow_urls: bool) -> str | io.BytesIO:
    """Return what the classifier opens: the name of a file, or the content of an address.

    Raises OSError if an address may not be fetched, or cannot be.
    """
    if not is_url(file):
        return file
    if not allow_urls:
        raise OSError(0, "an address on the web; --allow-urls fetches it")
    from pawprint.sources.web import fetch  # here: nothing else of predict needs a network

    return io.BytesIO(fetch(file))


def answer_files(
    ask: Ask, files: Iterable[str], allow_urls: bool = False, spare: int = 0
) -> Iterator[Row]:
    """Yield one row per file, in order: its name and the model's answer, or its name and an error.

    spare: as for `Engine.map`; SPARE has it for each runtime.

    Each core decodes a file and asks the model about it alone: measured on 2 cores, batches of 32
    took twice the time per picture, because what lies between the layers no longer fits the cache.
    """

    def answer(file: str) -> Row:
        try:
            return {"file": file, **ask(content_of(file, allow_urls))}
        except Exception as error:
            return {"file": file, "error": say(error)}

    return Engine().map(answer, files, pool="threads", spare=spare)


def say(error: Exception) -> str:
    """Return what is wrong with a file, in one line."""
    if isinstance(error, Unusable):
        return str(error)
    named = " ".join(f"{type(error).__name__}: {error}".split())
    return getattr(error, "strerror", None) or named  # of the network, or of the file system


def answer_on_cluster(
    engine: Engine, arguments: argparse.Namespace, files: list[str]
) -> Iterator[Row]:
    """Yield the rows of `answer_files`, computed by workers to which model and pictures travel.

    The driver reads the files and fetches the addresses.
    """

    def read(file: str) -> tuple[str, bytes, str]:
        try:
            content = content_of(file, arguments.allow_urls)
            given = content.getvalue() if isinstance(content, io.BytesIO) else None
            return file, Path(file).read_bytes() if given is None else given, ""
        except Exception as error:
            return file, b"", say(error)

    model = {name: (arguments.export / name).read_bytes() for name in MODEL}
    key = hashlib.sha256(b"".join(model.values())).hexdigest()
    work = partial(answer_content, key=key, model=model, runtime=arguments.runtime)
    return engine.map(work, map(read, files), pool="here", together=TOGETHER)


def answer_content(
    item: tuple[str, bytes, str], key: str, model: dict[str, bytes], runtime: str
) -> Row:
    """Return the row of a file from its name and content, or from its name and an error.

    model: the files of MODEL; key: their hash. Writes into the working folder.
    """
    file, content, problem = item
    if problem:
        return {"file": file, "error": problem}
    if key not in CLASSIFIERS:
        CLASSIFIERS.clear()
        for name, each in model.items():
            Path(name).write_bytes(each)
        CLASSIFIERS[key] = load(Path("."), 1, runtime)
    Path("picture").write_bytes(content)
    (row,) = answer_files(CLASSIFIERS[key], ["picture"])
    return {**row, "file": file}


def write_rows(rows: Iterable[Row], form: str, classes: list[str], to: TextIO) -> int:
    """Write the rows as they come; return how many of them are errors."""
    failed = 0
    if form == "csv":
        chances = (f"p_{name}" for name in classes)
        to.write(csv_line(["file", "label", "probability", "none", *chances, "error"]))
    for row in rows:
        failed += "error" in row
        if form == "jsonl":
            to.write(json.dumps(row, ensure_ascii=False) + "\n")
        elif form == "csv":
            to.write(csv_line(cells_of(row, classes)))
        else:
            to.write("  ".join([row["file"], *words_of(row)]) + "\n")
    return failed


def cells_of(row: Row, classes: list[str]) -> list[str]:
    """Return the cells of one row of CSV."""
    if "error" in row:
        return [row["file"], "", "", "", *("" for _ in classes), row["error"]]
    chances = [f"{row['probabilities'][name]:.6f}" for name in classes]
    none = "yes" if row["none"] else "no"
    return [row["file"], row["label"], f"{row['probability']:.6f}", none, *chances, ""]


def words_of(row: Row) -> list[str]:
    """Return what the table for people says of a file."""
    if "error" in row:
        return [f"error: {row['error']}"]
    return ["none of these" if row["none"] else row["label"], f"{row['probability']:.3f}"]
