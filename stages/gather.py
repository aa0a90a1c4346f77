"""Gather pictures from a source into data/raw, and write down where each came from.

Reads data/sources/NAME.yaml (NAME is `gather.source`), whose `kind` chooses the module in stages/sources.
Writes data/raw/LABEL/SHA.EXT, named after the first 16 hex digits of the content's SHA-256 so that the same picture is
stored once a label, and data/gathered.csv, one row a picture in the source's own order. Nothing is judged here: broken
files are kept as they came, for verify to reject by name. metrics/gather.json counts them.

data/gathered.csv is a lock file, because the web changes and a commit must not: while it fits the source's yaml (its
column `source` says so), exactly its pictures are fetched again and every SHA-256 is compared. A picture that is gone
or changed keeps its row and hash, with a status that says so. Another yaml, or no lock, and the source is asked anew;
pictures that are here already are not fetched twice. Folders and drawn samples are at hand and so always read anew.
A run that was killed goes on where it stopped; see stages/sources/journal.py.
"""

import hashlib
import importlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from pydantic import Field
from tqdm import tqdm

from pawprint.params import Params, StageError, check, load_params, load_yaml, run_stage
from pawprint.sources import PARTIAL, Found
from pawprint.sources.content import HEAD, SUFFIXES, kind_of
from pawprint.sources.download import Downloader, DownloadParams, Result
from pawprint.sources.journal import Journal, holds, install, part_of
from pawprint.tables import counts, read_table, write_bytes, write_json, write_table

RAW = Path("data/raw")
LOCK = Path("data/gathered.csv")
KINDS = {
    "sample": "SampleOptions",
    "folder": "FolderOptions",
    "archive": "ArchiveOptions",
    "urls": "UrlsOptions",
    "search": "SearchOptions",
}
AT_HAND = ("sample", "folder")  # always read anew
REMOTE = ("urls", "search")  # give addresses; the others give bytes
COLUMNS = [
    *("path", "label", "url", "query", "sha256", "bytes", "type"),
    *("status", "reason", "split", "group", "source"),
]
NO_FILE: dict[str, object] = {"path": "", "sha256": "", "bytes": 0, "type": ""}
Row = dict[str, Any]


class GatherParams(Params):
    """The section `gather` of params.yaml."""

    source: str
    path: str
    min_per_class: int = Field(1, ge=1)
    allow_private: bool = False
    download: DownloadParams = DownloadParams()


@dataclass(frozen=True)
class Source:
    """An opened data/sources/NAME.yaml. key: its name, and a hash of all that decides what it finds."""

    kind: str
    module: ModuleType
    options: Any
    root: Path
    key: str

    def found(self, downloader: Downloader) -> Iterator[Found]:
        more = (downloader,) if self.kind == "archive" else ()
        for item in self.module.found(self.options, self.root, *more):
            check_label(item.label)
            yield item


def main() -> None:
    params = load_params("gather", GatherParams)
    source = open_source(params)
    lock = fitting_lock(source)
    journal = Journal(
        f"{source.key} {hashlib.sha256(LOCK.read_bytes() if lock is not None else b'').hexdigest()}"
    )
    with Downloader(params.download, params.allow_private) as downloader:
        if lock is not None:
            rows = gather_again(lock, source, downloader, journal)
        elif source.kind in REMOTE:
            rows = download(list(source.found(downloader)), downloader, journal)
        else:
            rows = [
                store(item)
                for item in tqdm(source.found(downloader), desc="gather", unit="picture", delay=1)
            ]
    table = pd.DataFrame([{**row, "source": source.key} for row in rows], columns=COLUMNS)
    write_json("metrics/gather.json", summary(table))
    refuse_too_few(table, params.min_per_class, journal)
    remove_strays(table)
    write_table(LOCK, table)
    shutil.rmtree(PARTIAL, ignore_errors=True)


def open_source(params: GatherParams) -> Source:
    """Read the source's yaml and find its module.

    Raises StageError for a source without a yaml, and for a yaml with unknown keys or values.
    """
    yaml = Path(f"data/sources/{params.source}.yaml")
    if not yaml.is_file():
        known = ", ".join(sorted(path.stem for path in yaml.parent.glob("*.yaml")))
        raise StageError(
            f"gather.source is {params.source!r}, but there is no {yaml}; there are: {known}"
        )
    values = load_yaml(yaml)
    kind = values.get("kind")
    if kind not in KINDS:
        raise StageError(f"{yaml}: kind is {kind!r}; it should be one of {', '.join(KINDS)}")
    module = importlib.import_module(f"pawprint.sources.{kind}")
    options = check(values, getattr(module, KINDS[kind]), "", yaml)
    content = json.dumps(options.model_dump())
    if hasattr(module, "fingerprint"):
        content += module.fingerprint(options, Path(params.path))
    key = f"{params.source}:{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    return Source(kind, module, options, Path(params.path), key)


def fitting_lock(source: Source) -> list[Row] | None:
    """The rows of data/gathered.csv if it was gathered from this very source; None when there is nothing to hold to."""
    if source.kind in AT_HAND or not LOCK.is_file():
        return None
    table = read_table(LOCK)
    if list(table.columns) != COLUMNS or set(table["source"]) != {source.key}:
        return None
    return table.astype({"bytes": int}).to_dict("records")


def gather_again(
    lock: list[Row], source: Source, downloader: Downloader, journal: Journal
) -> list[Row]:
    """Make data/raw hold what the lock says; its rows, with what became of each.

    Rows without a hash had no picture when the lock was made, and stay so: the lock says what belongs to the data.
    """
    wanted = [row for row in lock if row["sha256"] and not holds(Path(row["path"]), row["sha256"])]
    if source.kind in REMOTE:
        items = [Found(row["url"], row["label"]) for row in wanted]
        fresh = download(items, downloader, journal, {row["path"] for row in wanted})
    else:
        names = {(row["url"], row["label"]) for row in wanted}
        items = (item for item in source.found(downloader) if (item.url, item.label) in names)
        fresh = (
            [store(item, only={row["path"] for row in wanted}) for item in items] if wanted else []
        )
    now = {(row["url"], row["label"]): row for row in fresh}
    missing = {(row["url"], row["label"]) for row in wanted}
    gone = {**NO_FILE, "status": "gone", "reason": "the archive no longer holds it"}
    return [
        compare(row, now.get((row["url"], row["label"]), gone))
        if (row["url"], row["label"]) in missing
        else row | ({"status": "ok", "reason": ""} if row["sha256"] else {})
        for row in lock
    ]


def compare(row: Row, now: Row) -> Row:
    """A row of the lock, with the status that fetching it again ended in."""
    if now["status"] == "ok" and now["sha256"] == row["sha256"]:
        return row | {"status": "ok", "reason": ""}
    if now["status"] == "ok":
        return row | {"status": "changed", "reason": f"its sha256 is now {now['sha256']}"}
    status = "gone" if now["status"] in ("gone", "not a picture") else now["status"]
    return row | {"status": status, "reason": now["reason"]}


def download(
    items: list[Found], downloader: Downloader, journal: Journal, only: set[str] | None = None
) -> list[Row]:
    """Fetch the items' addresses into data/raw, each once whatever its labels; a row an item, in their order.

    only: paths to install at; a picture that belongs elsewhere is not kept. None for all.
    """
    labels: dict[str, list[str]] = {}
    for item in items:
        if not item.missing:
            labels.setdefault(item.url, []).append(item.label)
    results = at_hand(labels, journal, only)
    with tqdm(
        desc="gather", unit="picture", total=len(labels), initial=len(results), delay=1
    ) as bar:

        def done(url: str, result: Result) -> None:
            journal.add(url, result)
            results[url] = result
            settle(url, result, labels[url], only)
            bar.update()

        for url, result in results.items():
            settle(url, result, labels[url], only)
        downloader.fetch_all({url: part_of(url) for url in labels if url not in results}, done)
    return [
        row_of(item, Result("incomplete", item.missing) if item.missing else results[item.url])
        for item in items
    ]


def at_hand(
    labels: dict[str, list[str]], journal: Journal, only: set[str] | None
) -> dict[str, Result]:
    """What need not be asked for: addresses that an interrupted run is through with, and pictures of an older lock."""
    results = {}
    for url in labels:
        result = journal.results.get(url)
        if result is None:
            continue
        unwanted = only is not None and not any(
            path_of(result, label).as_posix() in only for label in labels[url]
        )
        if result.status != "ok" or unwanted or here(url, result, labels[url]):
            results[url] = result
    older = read_table(LOCK) if LOCK.is_file() else pd.DataFrame()
    for row in older.to_dict("records") if list(older.columns) == COLUMNS else []:
        if row["sha256"] and row["url"] in labels and row["url"] not in results:
            result = Result("ok", "", row["sha256"], int(row["bytes"]), row["type"])
            if row["label"] in labels[row["url"]] and here(row["url"], result, labels[row["url"]]):
                results[row["url"]] = result
    return results


def here(url: str, result: Result, labels: list[str]) -> bool:
    """Whether a download is whole under data/gather.partial, or under all its labels in data/raw."""
    return holds(part_of(url), result.sha256) or all(
        holds(path_of(result, each), result.sha256) for each in labels
    )


def settle(url: str, result: Result, labels: list[str], only: set[str] | None) -> None:
    part = part_of(url)
    if result.status == "ok" and part.is_file():
        paths = [path_of(result, label) for label in labels]
        install(part, [path for path in paths if only is None or path.as_posix() in only])


def path_of(result: Result, label: str) -> Path:
    return RAW / label / f"{result.sha256[:16]}{SUFFIXES.get(result.type, '.bin')}"


def row_of(item: Found, result: Result) -> Row:
    row = {
        "label": item.label,
        "url": item.url,
        "query": item.query,
        "split": item.split,
        "group": item.group,
    }
    row |= {"status": result.status, "reason": result.reason}
    if result.status != "ok":
        return row | NO_FILE
    path = path_of(result, item.label).as_posix()
    return row | {"path": path, "sha256": result.sha256, "bytes": result.bytes, "type": result.type}


def store(item: Found, only: set[str] | None = None) -> Row:
    """Store one picture's bytes under its content's name; the row for data/gathered.csv.

    An unreadable file becomes a row with status `failed`, never the end of the run. only: as for `download`.
    """
    row = {
        "label": item.label,
        "url": item.url,
        "query": item.query,
        "split": item.split,
        "group": item.group,
    }
    try:
        if item.missing or item.read is None:
            raise OSError(item.missing)
        content = item.read()
    except OSError as error:
        return row | NO_FILE | {"status": "failed", "reason": error.strerror or str(error)}
    sha256 = hashlib.sha256(content).hexdigest()
    path = RAW / item.label / f"{sha256[:16]}{Path(item.url).suffix.lower()}"
    if (only is None or path.as_posix() in only) and not holds(path, sha256):
        write_bytes(path, content)
    kind = kind_of(content[:HEAD])
    return row | {
        "path": path.as_posix(),
        "sha256": sha256,
        "bytes": len(content),
        "type": kind,
        "status": "ok",
        "reason": "",
    }


def check_label(label: str) -> None:
    """A label becomes a folder's name."""
    if (
        not label.strip()
        or label.startswith(".")
        or len(label) > 100
        or set(label) & set("/\\\0\n")
    ):
        raise StageError(
            f"the label {label[:120]!r} cannot name a folder; use up to 100 characters without / and \\"
        )


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """metrics/gather.json: how many, and by name what the lock has and the world no longer."""
    had = table[table["sha256"] != ""]
    return {
        "pictures": int((table["status"] == "ok").sum()),
        "status": counts(table["status"]),
        "labels": counts(table.loc[table["status"] == "ok", "label"]),
        "queries": counts(query for query in table.loc[table["status"] == "ok", "query"] if query),
        "incomplete": table.loc[table["status"] == "incomplete", "reason"].tolist(),
        **{
            status: had.loc[had["status"] == status, "url"].drop_duplicates().tolist()
            for status in ("gone", "changed", "failed", "refused")
        },
    }


def refuse_too_few(table: pd.DataFrame, minimum: int, journal: Journal) -> None:
    """Raise StageError where there is nothing to tell apart, or less of a class than `gather.min_per_class`."""
    have = counts(table.loc[table["status"] == "ok", "label"])
    few = {
        label: have.get(label, 0)
        for label in sorted(set(table["label"]))
        if have.get(label, 0) < minimum
    }
    if len(set(table["label"])) < 2:
        labels = sorted(set(table["label"]))
        raise StageError(
            f"the source holds {len(labels)} class ({', '.join(labels)}); a classifier needs at least two"
        )
    if few:
        journal.forget_failures()
        lost = counts(table.loc[table["label"].isin(few) & (table["status"] != "ok"), "status"])
        raise StageError(
            f"gather.min_per_class is {minimum}, but there are {listed(few)}; missing there: {listed(lost) or 'none'}; "
            "metrics/gather.json says which. Run again if the network was down, restore data/raw with `dvc pull`, "
            f"delete {LOCK} to search anew, or lower gather.min_per_class"
        )


def listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in numbers.items())


def remove_strays(table: pd.DataFrame) -> None:
    """Remove what an earlier run left in data/raw and this source no longer has."""
    wanted = set(table["path"])
    for path in sorted(RAW.rglob("*"), reverse=True):
        if path.is_file() and path.as_posix() not in wanted:
            path.unlink()
        elif path.is_dir() and not os.listdir(path):
            path.rmdir()


if __name__ == "__main__":
    run_stage(main)
