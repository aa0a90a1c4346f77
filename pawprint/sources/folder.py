"""Source `folder`: pictures in the user's own folder, labelled by folder, by name or by a table."""

import errno
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from pawprint.params import StageError, listed
from pawprint.sources import Found
from pawprint.sources.labels import LabelOptions, label_files, missing_format
from pawprint.sources.names import is_hidden, is_video_name, printable
from pawprint.sources.user_tables import read_list


class FolderOptions(LabelOptions):
    """What data/sources/NAME.yaml may say for `kind: folder`; see LabelOptions."""

    kind: Literal["folder"]


def find_pictures(options: FolderOptions, root: Path) -> Iterator[Found]:
    """Yield every file under `root`, in the order of its path or of the table.

    root: the folder of `gather.path`. Links are followed, to files and to folders; hidden files are
    left out. A video by its name is not read, nor with `labels: pattern` any file that is not a
    picture by its name.
    Raises StageError if the folder is missing, cannot be read or has an empty class, and for a
    picture without a label.
    """
    if not root.is_dir():
        raise StageError(
            f"gather.path is '{root}', which is not a folder; name one that holds a folder for "
            "each class"
        )
    files = list_files(root, options)
    labelled = label_files(
        sorted(files), options, lambda name: read_list(root / name), f"gather.path: '{root}'"
    )
    if not labelled:
        raise StageError(
            f"gather.path: '{root}' holds no pictures; put them into {root}/CLASS/, one folder per "
            "class"
        )
    for row in labelled:
        missing, status, read = row.missing, "failed", None
        if not missing and (options.labels == "pattern" or is_video_name(row.file)):
            missing, status = missing_format(row.file), "not a picture"
        if not missing:
            read = partial(read_regular_file, files[row.file])
        yield Found(
            row.file,
            row.label,
            read,
            split=row.split,
            group=row.group,
            missing=missing,
            status=status,
            credit=row.credit,
        )


def list_files(root: Path, options: LabelOptions) -> dict[str, Path]:
    """Return all files under a folder by their name below it, with slashes.

    Links to folders are followed, but not one that leads back to a folder above it.
    Raises StageError for a folder that cannot be read, and for a class whose folder is empty.
    """
    files: dict[str, Path] = {}
    links = []
    waiting: list[tuple[Path, tuple[str, ...]]] = [(root, (os.path.realpath(root),))]
    while waiting:
        folder, above = waiting.pop()
        try:
            names = [name for name in os.listdir(folder) if not is_hidden(name)]
        except OSError as error:
            raise StageError(
                f"gather.path: {str(folder)!r} cannot be read: {error.strerror}; give access to "
                "it, or move it away"
            ) from None
        is_class = folder != root and not options.meaning_of(folder.name)
        if not names and is_class and options.labels == "parent":
            raise StageError(
                f"gather.path: {str(folder)!r} is empty; put pictures of this class into "
                "it, or remove it"
            )
        for path in (folder / name for name in names):
            real = os.path.realpath(path)
            if not path.is_dir():
                files[printable(path.relative_to(root).as_posix())] = path
            elif real in above:
                logging.warning("gather.path: %s leads back to %s, so left out", path, real)
            else:
                waiting.append((path, (*above, real)))
                links += [str(path)] if path.is_symlink() else []
    if links:
        logging.warning(
            "gather.path: DVC does not see changes behind links to folders (%s); after a change, "
            "run `dvc repro --force gather`",
            listed(links),
        )
    return files


def read_regular_file(path: Path) -> bytes:
    """Return a file's content. Raises OSError, also for what a read would wait for without end."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file")
    return path.read_bytes()
