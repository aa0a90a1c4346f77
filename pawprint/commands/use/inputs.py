"""What PATH is: a folder, a table, an archive, a list of addresses or a Hub data set."""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pawprint.commands.use.hub_look import look_at_dataset
from pawprint.params import StageError, check
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources import Found, archive, folder, hub, urls
from pawprint.sources.archive import ArchiveOptions
from pawprint.sources.download import Downloader, DownloadParams
from pawprint.sources.folder import FolderOptions
from pawprint.sources.guessing import Guesser, Trial
from pawprint.sources.hub.options import HubOptions
from pawprint.sources.label_options import LabelOptions
from pawprint.sources.names import check_label, is_hidden
from pawprint.sources.urls import UrlsOptions
from pawprint.sources.user_tables import read_list

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz")
OTHERS = {
    **dict.fromkeys(
        (".rar", ".7z", ".tar.bz2", ".tar.xz", ".gz"), "unpack it, and name the folder"
    ),
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".json", ".jsonl"), "save it as CSV"),
    ".parquet": "name the folder that holds it",
}
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_KEYS = ("config", "split", "image_column", "label_column", "revision")
ANY = LabelOptions(labels="pattern", pattern="()")  # as yet, an empty folder is no class
LATER = "it is looked at when gather runs"


@dataclass
class Input:
    """What was given.

    kind: of the source, and what: in words. values: of its yaml. root: for `gather.path`, or None
    if the source does not read it. stem: for its name. how: how labels are told. find: yields what
    gather will find; None if only gather can look. is_local: whether the pictures are here.
    """

    kind: str
    what: str
    values: dict[str, Any]
    root: Path | None
    stem: str
    how: str = ""
    find: Callable[[], Iterator[Found]] | None = None
    is_local: bool = True
    look: Callable[[], list[str]] = list


def open_input(text: str, given: dict[str, Any]) -> Input:
    """Return what a path or a name is. given: lines of the yaml from the command line.

    Raises StageError that says what to write if it is not understood.
    """
    path = near(Path(text).expanduser())
    suffix = next((end for end in (*ARCHIVES, *OTHERS) if text.lower().endswith(end)), "")
    if "://" in text:
        return open_address(text, suffix, given)
    if path.is_dir():
        return open_folder(path, given)
    if not path.exists():
        return open_hub_name(text, path, given)
    if suffix in OTHERS:
        raise StageError(f"{text}: a {suffix} is not read; {OTHERS[suffix]}")
    if suffix in ARCHIVES:
        return open_archive(path, given)
    if looks_like_picture(path.name):
        raise StageError(f"{text} is one picture; name the folder, the table or the archive")
    return open_table(path, given)


def near(path: Path) -> Path:
    """Return a path relative to the project if it lies in it; else as it is."""
    with contextlib.suppress(ValueError):
        return path.relative_to(Path.cwd()) if path.is_absolute() else path
    return path


def open_address(text: str, suffix: str, given: dict[str, Any]) -> Input:
    """Return an archive on the web, which only gather fetches."""
    if suffix not in ARCHIVES:
        raise StageError(
            f"{text} is an address; for an archive it should end in {', '.join(ARCHIVES)}; for "
            "pictures, write addresses into a .txt or .csv, one per line, and name that; a data "
            "set of the Hub is named OWNER/NAME alone"
        )
    values = {"kind": "archive", "archive": text, **given}
    check(values, ArchiveOptions, "", Path("the options"))
    stem = text.rstrip("/").rpartition("/")[2][: -len(suffix)]
    return Input("archive", f"an archive on the web; {LATER}", values, None, stem)


def open_hub_name(text: str, path: Path, given: dict[str, Any]) -> Input:
    """Return a data set of the Hub, which only gather fetches."""
    if not HUB_NAME.fullmatch(text) or Path(text).parts[0] in (".", "..") or path.parent.is_dir():
        raise StageError(
            f"{text}: there is no such file or folder; a data set of the Hub is named OWNER/NAME"
        )
    values = {"kind": "hub", "dataset": text, **hub_values(given)}
    options = check(values, HubOptions, "", Path("the options"))
    what = "a data set of the Hub, as no folder has this name"
    look = partial(look_at_dataset, options)
    return Input("hub", what, values, None, path.name, look=look)


def hub_values(given: dict[str, Any]) -> dict[str, Any]:
    """Return the lines for a Hub data set. Raises StageError for one that it does not have."""
    wrong = [key for key in given if key not in HUB_KEYS]
    if wrong:
        known = ", ".join(f"--{key.replace('_', '-')}" for key in HUB_KEYS)
        raise StageError(
            f"--{wrong[0].replace('_', '-')} is not for a data set of the Hub: {known}"
        )
    return given


def open_folder(root: Path, given: dict[str, Any]) -> Input:
    """Return a folder of pictures, of parquet files or of lists of addresses."""
    files = folder.list_files(root, ANY)
    pictures = [name for name in files if looks_like_picture(name)]
    stem = root.resolve().name
    if not pictures and any(name.endswith(".parquet") for name in files):
        values = {"kind": "hub", **hub_values(given)}
        rows = check(values, HubOptions, "", Path("the options"))
        return Input(
            *("hub", "a folder of parquet files", values, root, stem, "the column of labels"),
            find=lambda: checked(hub.find_pictures(rows, root)),
        )
    lists = [name for name in files if name.lower().endswith(urls.LISTS) and "/" not in name]
    if not pictures and lists:
        try:
            return open_lists(root, stem, given)
        except StageError:  # it may be a table of pictures whose names do not say what they are
            if len(lists) == len(files):
                raise
    guesser = Guesser(list(files), lambda name: read_list(root / name), given, f"'{root}'")
    return open_labelled(root, stem, list(files), guesser.guess())


def open_archive(path: Path, given: dict[str, Any]) -> Input:
    """Return an archive of pictures."""
    plain = check({"kind": "archive", "archive": path.as_posix()}, ArchiveOptions, "", path)
    with contextlib.ExitStack() as stack:
        members = archive.open_archive(path, plain, stack)
        files = {member.name: member for member in members if not is_hidden(member.name)}
        guess = Guesser(
            list(files),
            lambda name: archive.read_member_table(files, name, plain, path),
            given,
            f"'{path}'",
        ).guess()
    values = {"kind": "archive", "archive": path.as_posix(), **guess.values}
    options = check(values, ArchiveOptions, "", Path("the options"))
    pictures = sum(map(looks_like_picture, files))
    stem = re.sub(r"\.(zip|tgz|tar(\.gz)?)$", "", path.name, flags=re.IGNORECASE)

    def find() -> Iterator[Found]:
        with Downloader(DownloadParams(), allow_private=False) as downloader:
            yield from checked(archive.find_pictures(options, Path(), downloader))

    what = f"an archive of {pictures:,} pictures"
    return Input("archive", what, values, None, stem, guess.how, find)


def open_table(path: Path, given: dict[str, Any]) -> Input:
    """Return a table of files in its folder, or a list of addresses."""
    if path.suffix.lower() not in urls.LISTS:
        raise StageError(
            f"{path} is not understood; name a folder, a table (.csv, .tsv), a list of addresses "
            f"(.txt, .csv), an archive ({', '.join(ARCHIVES)}) or a data set of the Hub"
        )
    root = path.parent
    files = list(folder.list_files(root, ANY))
    guesser = Guesser(files, lambda name: read_list(root / name), given, f"'{root}'")
    trial = guesser.try_table(path.name)
    if trial.found:
        return open_labelled(root, path.stem, files, trial)
    try:
        return open_lists(path, path.stem, given)
    except StageError as error:
        if path.suffix.lower() == ".txt":
            raise
        raise StageError(table_problem(path, trial) or str(error)) from None


def table_problem(path: Path, trial: Trial) -> str:
    """Return what is wrong with a table that is no list of addresses either; "" if unknown."""
    if not trial.error and not trial.labelled:
        return f"{path} has no rows below its header; write one for each picture"
    if trial.labelled or "names a file that is there" not in trial.error:
        return trial.error
    return f"{trial.error}; if they lie elsewhere, name the folder that holds table and pictures"


def open_labelled(root: Path, stem: str, files: list[str], trial: Trial) -> Input:
    """Return a folder of pictures whose labels are known by a trial."""
    values = {"kind": "folder", **trial.values}
    options = check(values, FolderOptions, "", Path("the options"))
    what = f"a folder of {sum(map(looks_like_picture, files)):,} pictures"
    return Input(
        *("folder", what, values, root, stem, trial.how),
        find=lambda: checked(folder.find_pictures(options, root)),
    )


def open_lists(root: Path, stem: str, given: dict[str, Any]) -> Input:
    """Return a list of addresses, or a folder of lists."""
    values = {"kind": "urls", **given}
    options = check(values, UrlsOptions, "", Path("the options"))

    def find() -> Iterator[Found]:
        yield from checked(urls.find_pictures(options, root))

    count = sum(1 for _ in find())
    what = f"{count:,} addresses; the pictures are looked at when gather has them"
    how = "the table's column, or the list's name"
    return Input("urls", what, values, root, stem, how, find, is_local=False)


def checked(items: Iterator[Found]) -> Iterator[Found]:
    """Yield what gather will find. Raises StageError for a label that cannot name a folder."""
    for item in items:
        check_label(item.label)
        yield item
