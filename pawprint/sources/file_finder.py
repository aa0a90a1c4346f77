"""Which file a row of a table means: names without a suffix, or of a file in a folder below."""

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from pathlib import PurePosixPath

from pawprint.params import StageError, listed
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources.names import is_other_picture
from pawprint.sources.user_tables import UserTable

ABSENT = "the table names it, but there is no such file"


class FileFinder:
    """The files of a source by their names, with and without the suffix of a picture.

    files: paths relative to the source's folder, with slashes. meaning_of: returns the split that
    a folder's name means, or "".
    """

    def __init__(self, files: list[str], meaning_of: Callable[[str], str]) -> None:
        self.meaning_of = meaning_of
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for file in files:
            path = PurePosixPath(file)
            names = {path.name}
            if _is_picture(file):
                names.add(path.stem)
            for key in {folded(name) for name in names}:
                self.by_name[key].append(file)

    def find(self, name: str, folder: PurePosixPath, split: str = "") -> tuple[str, str]:
        """Return the file that a table's cell means; if none or several fit, the cell, and why.

        folder: that holds the table. split: the row's, or ""; it decides between `train/1.jpg` and
        `test/1.jpg`. The name counts from the table's folder, then from the source's, then from
        any other; with the suffix before without; in its own case before another. If none fits, a
        picture in another format may: `1.png` is `1.jpg` if somebody has converted all.
        """
        fits = defaultdict(list)
        for file in self.by_name.get(folded(PurePosixPath(name).name), []):
            rank = _rank(file, name, folder)
            if rank is not None:
                fits[rank].append(file)
        best = fits[min(fits)] if fits else []
        if len(best) > 1 and split:
            best = [file for file in best if split in map(self.meaning_of, file.split("/")[:-1])]
        if len(best) == 1:
            return best[0], ""
        if not best:
            plain = name[: -len(PurePosixPath(name).suffix)] if _is_picture(name) else ""
            found, problem = self.find(plain, folder, split) if plain else ("", ABSENT)
            return (name, problem) if problem else (found, "")
        return name, f"the table names it, and {len(best)} files fit: {listed(best, 3)}"

    def finds_any(self, names: list[str], folder: PurePosixPath) -> bool:
        """Return whether one of a table's cells is the name of a file."""
        return any(not self.find(plain_name(name), folder)[1] for name in names if name)


def _is_picture(name: str) -> bool:
    """Return whether a name is that of a picture, also of a format that is not read."""
    return looks_like_picture(name) or is_other_picture(name)


def _rank(file: str, name: str, folder: PurePosixPath) -> tuple[int, bool, bool] | None:
    """Return how well a file fits a name, small for well; None if it does not."""
    path, wanted = PurePosixPath(file), PurePosixPath(name)
    full = path.name == wanted.name or folded(path.name) == folded(wanted.name)
    whole = path if full else path.with_name(path.stem)
    if [folded(part) for part in whole.parts[-len(wanted.parts) :]] != [
        folded(part) for part in wanted.parts
    ]:
        return None
    same_case = whole.parts[-len(wanted.parts) :] == wanted.parts
    places = [folded(str(folder / wanted)), folded(str(wanted))]
    place = places.index(folded(str(whole))) if folded(str(whole)) in places else len(places)
    return place, not full, not same_case


def folded(name: str) -> str:
    """Return a name as names are compared: in small letters, accents in one form."""
    return unicodedata.normalize("NFC", name).casefold()


def plain_name(cell: str) -> str:
    """Return the path in a table's cell with slashes, without `./` at its beginning."""
    return posixpath.normpath(cell.replace("\\", "/")) if cell else ""


def relative_names(table: UserTable, column: str, folder: PurePosixPath) -> list[str]:
    """Return the paths in a column as they are below the source's folder, or some folder in it.

    folder: that holds the table. Paths of another machine (`/kaggle/input/dogs/train/1.jpg`) lose
    what all have in common. Raises StageError that names the line for an address, and for a path
    that leads outside.
    """
    names = [plain_name(cell) for cell in table.cells(column)]
    common = ""
    if names and all(re.match("/|[A-Za-z]:/", name) for name in names):
        common = posixpath.commonpath([posixpath.dirname(name) for name in names])
    found = []
    for (line, cells), name in zip(table.rows, names, strict=True):
        if not name:
            raise StageError(f"{table.where}, line {line}: file or label is empty")
        if "://" in cells[column]:
            raise StageError(
                f"{table.where}, line {line}: {cells[column][:80]!r} is an address; for a table of "
                "addresses, write `kind: urls` into the source's yaml"
            )
        short = name[len(common) :].lstrip("/") if common else name
        if short.startswith("../"):
            short = posixpath.normpath(str(folder / short))
        if re.match(r"/|[A-Za-z]:/|\.\./", short):
            raise StageError(f"{table.where}, line {line}: {name!r} leads outside the folder")
        found.append(short)
    return found
