"""Files that a person may edit while a stage reads them.

DVC hashes what a stage depends on after its command has ended. A file that was edited meanwhile
would be recorded as read, and `dvc repro` would say that all is up to date.
"""

import hashlib
from pathlib import Path

from pawprint.params import StageError


class Watch:
    """The state of files and folders at the start of a stage, to compare with at its end."""

    def __init__(self, *paths: Path | str) -> None:
        self.before = {path: state_of(Path(path)) for path in paths}

    def refuse_changes(self) -> None:
        """Raise StageError that names the first file or folder which has changed since the start.

        The stage has failed then, and the next `dvc repro` runs it again.
        """
        for path, state in self.before.items():
            if state_of(Path(path)) != state:
                raise StageError(f"{path} changed meanwhile; run `dvc repro` again")


def state_of(path: Path) -> str:
    """Return a hash of a file's content, or of names, sizes and times of the files in a folder.

    To read all files of a folder would take too long.
    """
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for each in sorted(path.rglob("*")):
        try:
            about = each.stat()
        except OSError:  # a link that leads nowhere, or a file that has just gone
            continue
        if each.is_file():
            name = each.relative_to(path).as_posix()
            line = f"{name}\0{about.st_size}\0{about.st_mtime_ns}\0"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
