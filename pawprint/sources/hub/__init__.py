"""Source `hub`: a data set of the Hugging Face Hub, or a folder with the same files.

Rows come from parquet shards, or from pictures in folders and archives with an optional metadata
file, as `datasets` lays them out. A loading script in the repository is never run: if there is
nothing else, the Hub's own conversion to parquet is read (branch refs/convert/parquet).

The commit is part of every address, so the lock pins it: `hf://datasets/OWNER/NAME@COMMIT/FILE#ROW`.
Files are fetched one after the other into data/gather.partial, where a killed run finds them again.
A token is taken from HF_TOKEN or from a login, and another server from HF_ENDPOINT, by the library
huggingface_hub; pawprint writes neither down.
"""

import contextlib
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pawprint.params import StageError, listed
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources import PARTIAL, Found
from pawprint.sources.archive import safe_name
from pawprint.sources.download import OURS
from pawprint.sources.hub.folder import list_entries, read_entries
from pawprint.sources.hub.layout import CONVERTED, Part, find_parts, read_card, settle_splits
from pawprint.sources.hub.options import INSTALL, HubOptions, Repository
from pawprint.sources.hub.parquet import read_shards
from pawprint.sources.names import is_hidden

__all__ = ["HubOptions", "find_pictures"]

FILES = PARTIAL / "hub"  # where the files of data sets are fetched to, a folder per commit
COMMIT = re.compile(r"hf://datasets/[^@]+@([0-9a-f]{40})/")


def find_pictures(
    options: HubOptions, root: Path, wanted: Collection[str] | None = None
) -> Iterator[Found]:
    """Yield every picture that has a label, shard by shard, in the order of the files' names.

    root: `gather.path`, read if the yaml names neither data set nor folder. wanted: the addresses
    that the lock lists; the commit is theirs, and files without any of them are not fetched. None
    if there is no lock. Raises StageError for a data set that cannot be read, is not there or may
    not be read, and for columns, splits and configurations that are not clear.
    """
    repository = open_repository(options, root, wanted)
    card = read_card(repository)
    parts = find_parts(repository.files, card, options.config, repository.name)
    by_script = script_of(options.dataset, repository, parts)
    if by_script and not wanted and not options.revision:
        repository, parts = converted(options, repository, parts)
    if not parts:
        raise StageError(
            f"{repository.name}: it holds neither parquet files nor pictures{by_script}"
        )
    files = None if wanted is None else {url.partition("#")[0] for url in wanted}
    found, unlabelled = 0, Counter[str]()
    with contextlib.ExitStack() as stack:
        for item in read_parts(repository, parts, card, options, files, stack):
            if item.label:
                found += 1
                yield item
            else:
                unlabelled[item.url.partition("#")[0].removeprefix(repository.address)] += 1
    if unlabelled:
        logging.warning(
            "%s: left out, because they have no label: %d in %s; `pawprint predict` is for such",
            repository.name,
            sum(unlabelled.values()),
            listed(sorted(unlabelled)),
        )
    if not found and wanted is None:
        raise StageError(
            f"{repository.name}: none of its pictures has a label{by_script}; in the source's yaml "
            "name a column of labels (`label_column`), a split (`split`) or a configuration "
            "(`config`)"
        )


def read_parts(
    repository: Repository,
    parts: list[Part],
    card: dict[str, Any],
    options: HubOptions,
    files: set[str] | None,
    stack: contextlib.ExitStack,
) -> Iterator[Found]:
    """Yield the pictures of all parts; their label is "" if they have none.

    files: the addresses of the only files to read; None: all. stack: keeps archives open.
    """
    entries = [
        entry
        for part in parts
        if not part.is_parquet
        for entry in list_entries(repository, part, card, options, files, stack)
    ]
    words = {part.split for part in parts if part.is_parquet} | {entry.split for entry in entries}
    splits = settle_splits(words, options.split, repository.name) if words else {}
    for part in parts:
        if part.is_parquet and part.split in splits:
            split = splits[part.split]
            yield from read_shards(repository, part.files, split, card, options, files)
    chosen = [entry for entry in entries if entry.split in splits]
    yield from read_entries(repository, chosen, splits)


# --- where the files are ---


def open_repository(
    options: HubOptions, root: Path, wanted: Collection[str] | None = None
) -> Repository:
    """List a data set's files, on the Hub or in a folder."""
    if not options.dataset:
        return open_folder(Path(options.path) if options.path else root)
    commits = {match[1] for url in wanted or () if (match := COMMIT.match(url))}
    revision = commits.pop() if len(commits) == 1 else options.revision
    return open_dataset(options.dataset, revision, locked=bool(wanted))


def open_folder(root: Path) -> Repository:
    """List the files of a folder. Raises StageError if there is none."""
    if not root.is_dir():
        raise StageError(f"kind: hub reads the folder '{root}', which is missing; correct `path`")
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    files = sorted(name for name in names if not is_hidden(name))
    return Repository(f"'{root}'", "", files, lambda name: root / name)


def open_dataset(
    dataset: str, revision: str, locked: bool = False, target: Path = FILES
) -> Repository:
    """Ask the Hub for a data set's commit and its files.

    revision: a branch, tag or commit; "" for the main branch. locked: whether the lock names it.
    target: the folder for what is fetched. Raises StageError if the data set is absent, private or
    gated, and NoAnswer if the Hub does not answer.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise StageError(f"kind: hub needs huggingface_hub: {INSTALL}") from None
    api = HfApi(library_name="pawprint")
    with hub_errors(dataset, revision, locked):
        commit = api.dataset_info(dataset, revision=revision or None).sha
        tree = api.list_repo_tree(dataset, recursive=True, revision=commit, repo_type="dataset")
        paths = [entry.path for entry in tree if hasattr(entry, "size")]
    name = f"data set {dataset}"
    safe = [safe_name(path, Path(dataset)) for path in paths]
    files = sorted(path for path in safe if not is_hidden(path))
    fetch = partial(fetch_file, api, dataset, str(commit), target / str(commit)[:16])
    return Repository(name, f"hf://datasets/{dataset}@{commit}/", files, fetch)


def fetch_file(api: Any, dataset: str, commit: str, folder: Path, name: str) -> Path:
    """Return a file of a data set in a folder; fetch it, or the rest of it."""
    from huggingface_hub.utils import disable_progress_bars

    if looks_like_picture(name):  # one of many: gather has a bar for all
        disable_progress_bars()
    with hub_errors(dataset, commit):
        return Path(
            api.hf_hub_download(
                dataset, name, repo_type="dataset", revision=commit, local_dir=folder
            )
        )


class NoAnswer(StageError):
    """The Hub does not answer, or may not be asked; another time it may."""


@contextlib.contextmanager
def hub_errors(dataset: str, revision: str = "", locked: bool = False) -> Iterator[None]:
    """Turn what huggingface_hub raises into a StageError of one line, without addresses."""
    from huggingface_hub import errors

    try:
        yield
    except (StageError, MemoryError):
        raise
    except errors.GatedRepoError:
        advice = "accept its terms on its page, and set HF_TOKEN or run `hf auth login`"
        raise StageError(f"data set {dataset} is gated: {advice}") from None
    except errors.RepositoryNotFoundError:
        raise StageError(
            f"there is no data set {dataset}, or it is private; correct `dataset` in the source's "
            "yaml, or set HF_TOKEN to a token that may read it"
        ) from None
    except errors.RevisionNotFoundError:
        advice = "correct `revision` in the source's yaml"
        if locked:
            advice = "delete data/gathered.csv to gather the data set as it is now"
        raise StageError(f"data set {dataset} has no revision {revision!r}; {advice}") from None
    except errors.OfflineModeIsEnabled:
        raise NoAnswer(f"data set {dataset}: HF_HUB_OFFLINE forbids to fetch it") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OURS:
            raise
        raise NoAnswer(
            f"data set {dataset}: the Hub cannot be read ({reason_of(error)}); run again to go on "
            "from what is there"
        ) from None


def reason_of(error: Exception) -> str:
    """Return in a few words why a request failed. The library's own text may hold addresses."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    if status in (401, 403):
        return f"HTTP {status}: check HF_TOKEN"
    if status:
        return f"HTTP {status}"
    cause = error.__cause__ or error
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0][:120]}" if lines else type(cause).__name__


# --- data sets with a script ---


def script_of(dataset: str, repository: Repository, parts: list[Part]) -> str:
    """Return what messages say of a data set with a script and without parquet; "" for others."""
    script = f"{dataset.rpartition('/')[2]}.py"
    if script not in repository.files or any(part.is_parquet for part in parts):
        return ""
    return f"; its script {script} is not run"


def converted(
    options: HubOptions, repository: Repository, parts: list[Part]
) -> tuple[Repository, list[Part]]:
    """Return the Hub's own conversion of a data set with a script, or what it was if none."""
    try:
        other = open_dataset(options.dataset, CONVERTED)
    except StageError as error:
        logging.warning("%s: its script is not run, and: %s", repository.name, error)
        return repository, parts
    if any("/partial-" in file for file in other.files):
        logging.warning("%s: the Hub has converted only a part of it", repository.name)
    return replace(other, name=repository.name), find_parts(
        other.files, {}, options.config, repository.name
    )
