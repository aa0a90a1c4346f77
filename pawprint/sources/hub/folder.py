"""Pictures in folders and archives, as `datasets` lays them out (its "ImageFolder").

A picture's label is the folder that holds it, or a column of a `metadata.csv`, `.jsonl` or
`.parquet` in a folder above it, whose column `file_name` names it. An archive counts as a folder
of its own name: `train.zip` that holds `cat/1.jpg` is `train/cat/1.jpg`.
"""

import contextlib
import json
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from pawprint.params import StageError
from pawprint.sources import UNCREDITED, Credit, Found
from pawprint.sources.archive import ArchiveOptions, Member, open_archive
from pawprint.sources.hub.labels import (
    LABELS,
    credit_in_card,
    features_of_card,
    label_of,
    names_of,
)
from pawprint.sources.hub.layout import (
    ARCHIVES,
    METADATA,
    Part,
    is_split_folder,
    split_in_folders,
)
from pawprint.sources.hub.options import INSTALL, HubOptions, Repository
from pawprint.sources.labels import missing_format
from pawprint.sources.licences import find_credit_columns
from pawprint.sources.names import is_hidden, is_video_name
from pawprint.sources.user_tables import MISSING
from pawprint.tables import parse_rows

THREADS = 8  # downloads at the same time
AHEAD = 32  # pictures that may be fetched before the first of them is stored
Table = dict[str, dict[str, Any]]  # the rows of metadata files by the picture's name


@dataclass(frozen=True)
class Entry:
    """A file that may be a picture. name: with its folders, an archive's name being one of them.

    url: its address. file: its name in the repository, "" if it is in an archive. read: its bytes,
    if it is in an archive. label, split: "" if it has none; the split as the data set calls it.
    credit: whose picture it is.
    """

    name: str
    url: str
    file: str = ""
    read: Callable[[], bytes] | None = None
    label: str = ""
    split: str = ""
    credit: Credit = UNCREDITED


def list_entries(
    repository: Repository,
    part: Part,
    card: dict[str, Any],
    options: HubOptions,
    only: Collection[str] | None,
    stack: contextlib.ExitStack,
) -> list[Entry]:
    """Return the pictures of a part with label and split; archives are fetched, pictures not yet.

    only: the addresses of the only files to read; None: all. stack: keeps archives open. Raises
    StageError for an archive that is damaged or hostile, and for metadata that are not understood.
    """
    entries, tables = [], Tables(options, card, repository.name)
    for file in part.files:
        address = repository.address + file
        if METADATA.fullmatch(file):
            tables.add(file, repository.fetch(file).read_bytes())
        elif only is not None and address not in only:
            continue
        elif ARCHIVES.fullmatch(file):
            folder = re.sub(r"\.(zip|tgz|tar(\.gz)?)$", "", file, flags=re.IGNORECASE)
            members = members_of(repository.fetch(file), options, stack)
            if any(member.name.endswith(".cls") for member in members):
                raise StageError(
                    f"{repository.name}: {file} is a WebDataset, which is not read; look for the "
                    "same data in parquet"
                )
            for member in members:
                name = f"{folder}/{member.name}"
                if METADATA.fullmatch(name):
                    tables.add(name, member.read())
                elif not is_hidden(member.name) and is_candidate(member.name):
                    entries.append(Entry(name, f"{address}#{member.name}", read=member.read))
        else:
            entries.append(Entry(file, address, file))
    return [tables.label(entry, part.split) for entry in entries]


def members_of(path: Path, options: HubOptions, stack: contextlib.ExitStack) -> list[Member]:
    """Return an archive's files, judged as the source `archive` judges them."""
    limits = ArchiveOptions(
        kind="archive",
        archive=str(path),
        max_unpacked=options.max_unpacked,
        max_member=options.max_member,
    )
    return open_archive(path, limits, stack)


def is_candidate(name: str) -> bool:
    """Return whether a file in an archive is a picture by its name, or a video beside pictures."""
    return not missing_format(name) or is_video_name(name)


def read_entries(
    repository: Repository, entries: list[Entry], splits: dict[str, str]
) -> Iterator[Found]:
    """Yield pictures; those on the Hub are fetched several at a time. splits: pawprint's words."""

    def fetch(entry: Entry) -> Path | None:
        wanted = entry.file and entry.label and not missing_format(entry.name)
        return repository.fetch(entry.file) if wanted else None

    for entry, path in in_advance(fetch, entries):
        read = path.read_bytes if path else entry.read
        missing = missing_format(entry.name)
        yield Found(
            entry.url,
            entry.label,
            None if missing else read,
            split=splits[entry.split],
            missing=missing,
            status="not a picture" if missing else "failed",
            credit=entry.credit,
        )


def in_advance(
    fetch: Callable[[Entry], Path | None], entries: Iterable[Entry]
) -> Iterator[tuple[Entry, Path | None]]:
    """Yield entries with what `fetch` returns for each, in order, AHEAD of them under way."""
    remaining = iter(entries)
    with ThreadPoolExecutor(THREADS) as pool:
        under_way = deque((each, pool.submit(fetch, each)) for each in islice(remaining, AHEAD))
        try:
            while under_way:
                entry, future = under_way.popleft()
                yield entry, future.result()
                under_way.extend((each, pool.submit(fetch, each)) for each in islice(remaining, 1))
        finally:
            for _, future in under_way:
                future.cancel()


class Tables:
    """The metadata files of a part, and what they say of pictures."""

    def __init__(self, options: HubOptions, card: dict[str, Any], name: str) -> None:
        self.options, self.name = options, name
        self.card, self.features = card, features_of_card(card, options.config)
        self.rows: Table = {}
        self.folders: set[str] = set()  # with a metadata file that has labels
        self.column = ""
        self.names: list[str] = []  # of the classes in that column

    def add(self, file: str, content: bytes) -> None:
        """Read one file. Raises StageError that names the line if it is not understood."""
        folder = str(PurePosixPath(file).parent)
        rows = list(rows_of(file, content, f"{self.name}, {file}"))
        columns = {column for row in rows for column in row}
        wanted = self.options.label_column
        column = next((each for each in (wanted, *LABELS) if each and each in columns), "")
        if wanted and column != wanted:
            raise StageError(
                f"{self.name}: label_column is {wanted!r}, but {file} has the columns "
                f"{', '.join(sorted(columns))}"
            )
        if column:
            self.column, self.names = column, names_of(self.features, column)
            self.folders.add(folder)
        for row in rows:
            if file.endswith(".csv") and row.get(column) in MISSING:
                row[column] = ""  # `datasets` has pandas read it
            picture = str(row.get("file_name", "")).replace("\\", "/")
            self.rows[(PurePosixPath(folder) / picture).as_posix()] = row

    def label(self, entry: Entry, split: str) -> Entry:
        """Return an entry with its label and its split. split: of its part, "" if not known."""
        *folders, _ = PurePosixPath(entry.name).parts
        above = {str(folder) for folder in PurePosixPath(entry.name).parents}
        row = self.rows.get(entry.name, {})
        if above & self.folders:
            label = label_of(row.get(self.column), self.names, self.name)
        else:
            label = folders[-1] if folders else ""
            if is_split_folder(label) and not split_in_folders(folders[:-1]):
                label = ""
            folders = folders[:-1] if label else folders
        found = split or split_in_folders(folders)
        credit = find_credit_columns(row, ("file_name", self.column)).read(row)
        return replace(entry, label=label, split=found, credit=credit_in_card(credit, self.card))


def rows_of(file: str, content: bytes, where: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a metadata file, by column. Raises StageError if it is not understood."""
    if file.endswith(".csv"):
        table = parse_rows(content, where)
        yield from (dict(zip(table.header, cells, strict=True)) for cells in table.rows)
    elif file.endswith(".jsonl"):
        for number, line in enumerate(content.splitlines(), start=1):
            if line.strip():
                try:
                    yield dict(json.loads(line))
                except (ValueError, TypeError):
                    raise StageError(f"{where}, line {number}: not a JSON object") from None
    else:
        yield from parquet_rows(content, where)


def parquet_rows(content: bytes, where: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a metadata file in parquet."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise StageError(f"kind: hub needs pyarrow: {INSTALL}") from None
    try:
        yield from pyarrow.parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
    except Exception as error:  # pyarrow raises its own kinds
        why = " ".join(str(error).split())[:200]
        raise StageError(f"{where}: not readable as parquet ({why})") from None
