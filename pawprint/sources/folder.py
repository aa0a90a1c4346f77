"""Source `folder`: pictures in a folder of the user's, labelled by their folder, their name or a table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pawprint.params import StageError
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources import Found
from pawprint.sources.labels import LabelOptions, label_all


class FolderOptions(LabelOptions):
    """What data/sources/NAME.yaml may say for `kind: folder`; see LabelOptions."""

    kind: Literal["folder"]


def found(options: FolderOptions, root: Path) -> Iterator[Found]:
    """Yield every file under `root`, in the order of its path or of the table; hidden files are passed over.

    root: the folder of `gather.path`.
    Raises StageError where the folder is not there, or a file has no label.
    """
    if not root.is_dir():
        raise StageError(
            f"gather.path is '{root}', which is not a folder; name one that holds a folder for each class"
        )
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and not _hidden(path, root)
    )
    table = read_list(root / options.table) if options.labels == "table" else ""
    if options.labels == "parent":
        loose = [name for name in names if "/" not in name and looks_like_picture(name)]
        if loose:
            raise StageError(
                f"gather.path: {root / loose[0]} has no label; put it into a folder named after its class, "
                "or set `labels` in the source's yaml"
            )
        names = [name for name in names if "/" in name]
    elif options.labels == "pattern":
        names = [name for name in names if looks_like_picture(name)]
    labelled = label_all(names, options, table, "gather.path")
    if not labelled:
        raise StageError(
            f"gather.path: '{root}' holds no pictures; put them into {root}/CLASS/, a folder a class"
        )
    for row in labelled:
        yield Found(
            row.file, row.label, (root / row.file).read_bytes, split=row.split, group=row.group
        )


def read_list(path: Path) -> str:
    """The text of a list that the user wrote, whatever system it was written on."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise StageError(f"{path} is missing; write it, or change the source's yaml") from None
    except UnicodeDecodeError:
        raise StageError(f"{path} is not UTF-8 text; save it as UTF-8") from None


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
