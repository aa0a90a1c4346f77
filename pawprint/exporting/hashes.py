"""DVC's hashes of files and folders, as dvc.lock has them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path


def dvc_hash(path: Path) -> str:
    """Return DVC's hash of a file or a folder; compiled Python does not count.

    A file's is its md5. A folder's is the md5 of the list of its files and their hashes as JSON,
    followed by `.dir`.
    """
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    files = [each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts]
    return hash_of_files({each.relative_to(path).as_posix(): each for each in files})


def hash_of_files(files: Mapping[str, Path]) -> str:
    """Return DVC's hash of a folder that holds these files, by their names below it."""
    entries = [{"md5": dvc_hash(path), "relpath": name} for name, path in sorted(files.items())]
    return hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest() + ".dir"
