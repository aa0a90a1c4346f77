"""data/raw, the store: data/raw/LABEL/SHA.SUFFIX; SHA is 16 hex digits of the content's SHA-256.

The same picture is stored once per label. A file appears under its name at once, or not at all.
"""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pawprint.sources.content import SUFFIXES, file_hash
from pawprint.sources.lock import RAW


def stored_path(label: str, sha256: str, suffix: str) -> Path:
    """Return where a picture is stored."""
    return RAW / label / f"{sha256[:16]}{suffix}"


def suffix_of_type(kind: str) -> str:
    """Return the suffix of a content type, as `content.content_type_of` gives it."""
    return SUFFIXES.get(kind, ".bin")


def suffix_of_name(name: str, kind: str) -> str:
    """Return a file's own suffix, or that of its content type if its own is odd or very long."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if re.fullmatch(r"(\.[a-z0-9_-]{1,16})?", suffix) else suffix_of_type(kind)


def has_content(path: Path, sha256: str) -> bool:
    """Return whether a file is there and has this hash."""
    try:
        with path.open("rb") as file:
            return file_hash(file, "sha256") == sha256
    except (FileNotFoundError, IsADirectoryError):
        return False


def install(part: Path, paths: Iterable[Path]) -> None:
    """Copy a whole download to where it belongs, each copy appearing at once, and remove it."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")
        shutil.copyfile(part, temporary)
        os.replace(temporary, path)
    part.unlink()


def remove_strays(wanted: set[str]) -> None:
    """Remove all files from data/raw but the `wanted` ones, and folders that are then empty."""
    for path in sorted(RAW.rglob("*"), reverse=True):
        if path.is_symlink() or path.is_file():
            if path.as_posix() not in wanted:
                path.unlink()
        elif path.is_dir() and not os.listdir(path):
            path.rmdir()
