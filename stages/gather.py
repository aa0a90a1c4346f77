"""Gather pictures from a source into data/raw, and write down where each came from.

Reads data/sources/NAME.yaml (NAME is `gather.source`); its `kind` names the module in
pawprint/sources. The labelled pictures of the folder `gather.added` join those of any source.
Writes data/raw/LABEL/SHA.SUFFIX, data/gathered.csv (one row per picture, in the source's own order)
and metrics/gather.json. Nothing is judged here: broken files are kept as they came, for verify to
refuse by name. Only `gather.licences` leaves pictures out, by their licence; they are not fetched,
and their rows say why.

data/gathered.csv is a lock file, because the web changes and a commit must not. While it belongs to
the source's yaml (its column `source` says so), exactly its pictures are fetched again and every
SHA-256 is compared. A picture that is gone or changed keeps its row and hash, with a status that
says so. If the yaml changes, or the lock is deleted, the source is asked again; pictures that are
already here are not fetched twice. Folders and drawn samples are on this machine and always read
again. A killed run goes on where it stopped; see pawprint/sources/journal.py. A run that fails
leaves the lock as it was, and its rows in data/gather.partial/gathered.csv.
"""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from pawprint.compute.choice import open_engine
from pawprint.compute.settings import EngineParams
from pawprint.params import Params, StageError, load_params, run_stage
from pawprint.sources import PARTIAL
from pawprint.sources.download import Downloader, DownloadParams
from pawprint.sources.fetching import fetch_found, fetch_locked
from pawprint.sources.journal import Journal
from pawprint.sources.licences import WITHHELD, normal_licence
from pawprint.sources.lock import LOCK, is_added, read_lock, write_lock
from pawprint.sources.names import check_path_text
from pawprint.sources.opening import SOURCES, open_added, open_source, say_unused_pictures
from pawprint.sources.report import (
    say_too_few,
    say_videos,
    say_withheld,
    without_empty_classes,
    write_report,
)
from pawprint.sources.store import remove_strays
from pawprint.watch import Watch


class GatherParams(Params):
    """The section `gather` of params.yaml."""

    source: Annotated[str, AfterValidator(check_path_text)]
    path: Annotated[str, AfterValidator(check_path_text)]
    added: Annotated[str, AfterValidator(check_path_text)] = "data/added"
    min_per_class: int = Field(default=1, ge=0)
    allow_private: bool = False
    licences: list[str] = Field(default_factory=list)
    download: DownloadParams = DownloadParams()

    @field_validator("licences")
    @classmethod
    def _in_their_normal_form(cls, value: list[str]) -> list[str]:
        names = [normal_licence(name) for name in value]
        if "" in names:
            raise ValueError("should name licences, such as [cc0, cc-by], or be [] for all")
        return names


def main() -> None:
    params = load_params("gather", GatherParams)
    engine = open_engine(load_params("compute", EngineParams))
    watch = Watch(SOURCES / f"{params.source}.yaml", params.path, params.added)
    source = open_source(params.source, Path(params.path))
    if not source.reads_path:
        say_unused_pictures(Path(params.path), params.source)
    added = open_added(Path(params.added))
    lock = [row for row in read_lock() if not is_added(row)]
    is_locked = bool(lock) and lock[0].source == source.key and not source.is_local
    locked_as = hashlib.sha256(LOCK.read_bytes() if is_locked else b"").hexdigest()
    journal = Journal(f"{source.key} {locked_as}")

    # fetch what the lock lists, or ask the source
    with Downloader(params.download, params.allow_private, engine) as downloader:
        if is_locked:
            rows = fetch_locked(lock, source, downloader, journal, params.licences)
        else:
            rows = fetch_found(source, lock, downloader, journal, params.licences)
        joined = fetch_found(added, [], downloader, journal, params.licences) if added else []
    rows = [replace(row, source=source.key) for row in rows]
    rows += [replace(row, source=added.key) for row in joined if added]

    if not params.min_per_class:
        rows = without_empty_classes(rows)

    # report, and stop if there is too little: the lock stays as it was
    write_report(rows)
    say_videos(rows)
    say_withheld(rows)
    problem = say_too_few(rows, params.min_per_class, source.is_remote)
    if problem:
        journal.forget_failures()
        raise StageError(problem)

    # make data/raw hold these pictures alone
    remove_strays({row.path for row in rows if row.status != WITHHELD})
    write_lock(rows)
    shutil.rmtree(PARTIAL, ignore_errors=True)
    watch.refuse_changes()


if __name__ == "__main__":
    run_stage(main)
