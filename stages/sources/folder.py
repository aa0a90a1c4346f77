"""Source `folder`: pictures in a folder of the user's, labelled by the folder they stand in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from stages.params import Params, StageError
from stages.sources import Found

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


class FolderOptions(Params):
    """What data/sources/NAME.yaml may say for `kind: folder`."""

    kind: Literal["folder"]
    labels: Literal["parent"] = "parent"


def found(options: FolderOptions, root: Path) -> Iterator[Found]:
    """Yield every file under `root`/LABEL/…, in the order of its path; hidden files are passed over.

    root: the folder of `gather.path`.
    Raises StageError where the folder is not there or holds no class folders.
    """
    if not root.is_dir():
        raise StageError(f"gather.path is '{root}', which is not a folder; name one that holds a folder for each class")
    files = sorted(
        (path for path in root.rglob("*") if path.is_file() and not _hidden(path, root)),
        key=lambda path: path.relative_to(root).as_posix(),
    )
    loose = [path for path in files if path.parent == root and path.suffix.lower() in PICTURES]
    if loose:
        raise StageError(f"gather.path: {loose[0]} has no label; put it into a folder named after its class")
    files = [path for path in files if path.parent != root]
    if not files:
        raise StageError(f"gather.path: '{root}' holds no pictures; put them into {root}/CLASS/, a folder a class")
    for path in files:
        yield Found(path.relative_to(root).as_posix(), path.parent.name, path.read_bytes)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
