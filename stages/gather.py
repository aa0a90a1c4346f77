"""Gather pictures from a source into data/raw, and write down where each came from.

Reads data/sources/NAME.yaml (NAME is `gather.source`), whose `kind` chooses the module in stages/sources.
Writes data/raw/LABEL/SHA.EXT, named after the first 16 hex digits of the content's SHA-256 so that the same picture is
stored once a label, and data/gathered.csv, one row a picture in the source's own order. Nothing is judged here: broken
files are kept as they came, for verify to reject by name. metrics/gather.json counts them.
"""

import hashlib
import importlib
import os
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from stages.params import Params, StageError, check, load_params, load_yaml, run_stage
from stages.sources import Found
from stages.tables import counts, write_bytes, write_json, write_table

RAW = Path("data/raw")
KINDS = {"sample": "SampleOptions", "folder": "FolderOptions"}
COLUMNS = ["path", "label", "url", "query", "sha256", "bytes", "status", "reason", "split", "group"]


class GatherParams(Params):
    """The section `gather` of params.yaml."""

    source: str
    path: str


def main() -> None:
    params = load_params("gather", GatherParams)
    rows = [store(item) for item in tqdm(list(open_source(params)), desc="gather", unit="picture")]
    table = pd.DataFrame(rows, columns=COLUMNS)
    refuse_too_few_classes(table)
    remove_strays(table)
    write_table("data/gathered.csv", table)
    write_json(
        "metrics/gather.json",
        {"pictures": len(table), "status": counts(table["status"]), "labels": counts(table["label"])},
    )


def open_source(params: GatherParams) -> list[Found]:
    """Read the source's yaml and ask its module for the pictures.

    Raises StageError for a source without a yaml, and for a yaml with unknown keys or values.
    """
    yaml = Path(f"data/sources/{params.source}.yaml")
    if not yaml.is_file():
        known = ", ".join(sorted(path.stem for path in yaml.parent.glob("*.yaml")))
        raise StageError(f"gather.source is {params.source!r}, but there is no {yaml}; there are: {known}")
    values = load_yaml(yaml)
    kind = values.get("kind")
    if kind not in KINDS:
        raise StageError(f"{yaml}: kind is {kind!r}; it should be one of {', '.join(KINDS)}")
    module = importlib.import_module(f"stages.sources.{kind}")
    options = check(values, getattr(module, KINDS[kind]), "", yaml)
    return list(module.found(options, Path(params.path)))


def store(item: Found) -> dict[str, object]:
    """Store one picture's bytes under its content's name; the row for data/gathered.csv.

    An unreadable file becomes a row with status `failed`, never the end of the run.
    """
    row = {"label": item.label, "url": item.url, "query": item.query, "split": item.split, "group": item.group}
    try:
        content = item.read()
    except OSError as error:
        return row | {"path": "", "sha256": "", "bytes": 0, "status": "failed", "reason": error.strerror or str(error)}
    sha256 = hashlib.sha256(content).hexdigest()
    path = RAW / item.label / f"{sha256[:16]}{Path(item.url).suffix.lower()}"
    if not path.is_file() or path.stat().st_size != len(content):
        write_bytes(path, content)
    return row | {"path": path.as_posix(), "sha256": sha256, "bytes": len(content), "status": "ok", "reason": ""}


def refuse_too_few_classes(table: pd.DataFrame) -> None:
    labels = sorted(table.loc[table["status"] == "ok", "label"].unique())
    if len(labels) < 2:
        raise StageError(f"the source holds {len(labels)} class ({', '.join(labels)}); a classifier needs at least two")


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
