"""Which folder is a class, which a split, and which neither, from the tree of folders alone.

`train/cat/1.jpg` is a cat to train with. So is `cat/train/1.jpg` beside `dog/train/2.jpg`, and
`train/cat/images/1.jpg`. In `test/1.jpg` there is no class: such pictures have no label.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

from pawprint.params import StageError, listed
from pawprint.sources.names import yaml_word
from pawprint.sources.splits import UNLABELLED

Path = PurePosixPath


@dataclass(frozen=True)
class Place:
    """What a folder that holds pictures is.

    name: the class of its pictures, "" if it has none. above: the folders that may name a split.
    is_for_asking: whether pictures without a class are expected here, as in `test/`.
    """

    name: str
    above: tuple[str, ...]
    is_for_asking: bool = False


NOWHERE = Place("", ())


class Layout:
    """The folders of a source that hold pictures.

    meaning_of: returns train, valid, test or another word for the name of a split, UNLABELLED, or
    "" for any other name. is_container: returns whether a name says that the folder holds pictures,
    but not of what.
    """

    def __init__(
        self,
        folders: Collection[str],
        meaning_of: Callable[[str], str],
        is_container: Callable[[str], bool],
    ) -> None:
        self.meaning_of, self.is_container = meaning_of, is_container
        self.holding = sorted(Path(folder) for folder in folders if folder != ".")
        self.by_parent: dict[Path, list[Path]] = defaultdict(list)
        for folder in self.holding:
            self.by_parent[folder.parent].append(folder)

        # first the folders that are classes by their name, then classes above splits
        classes = {folder: folder for folder in self.holding if self._is_class(folder)}
        above = {f: self._nearest_above(f) for f in self.holding if f not in classes}
        taken = {upper for folder in classes for upper in folder.parents}
        uppers = {upper for upper in above.values() if upper and upper not in taken}
        if len(uppers) > 1:
            classes |= {f: upper for f, upper in above.items() if upper and upper in uppers}
        for folder in self._one_folder_of_all(classes):
            del classes[folder]
        self.classes = classes
        self.places = {str(folder): self._place(folder) for folder in self.holding}

    def _is_class(self, folder: Path) -> bool:
        """Return whether a folder that holds pictures is a class by its own name."""
        if any(self.meaning_of(part) == UNLABELLED for part in folder.parts):
            return False
        meaning = self.meaning_of(folder.name)
        if not meaning and not self.is_container(folder.name):
            return True
        beside = [other for other in self.by_parent[folder.parent] if other != folder]
        if not meaning:  # `photos/` beside `drawings/`
            return bool(beside)
        # `train/` beside `bus/`, and `test/train/` beside `test/bus/`; but never `test/` alone
        ordinary = [other for other in beside if not self.meaning_of(other.name)]
        is_below_split = any(self.meaning_of(part) for part in folder.parent.parts)
        return bool(ordinary) and (is_below_split or folder.name.lower() in ("train", "trains"))

    def _nearest_above(self, folder: Path) -> Path | None:
        """Return the nearest folder above whose name is neither a split's nor a container's."""
        if any(self.meaning_of(part) == UNLABELLED for part in folder.parts):
            return None
        names = (upper for upper in folder.parents if upper.name)
        return next(
            (u for u in names if not self.meaning_of(u.name) and not self.is_container(u.name)),
            None,
        )

    def _one_folder_of_all(self, classes: dict[Path, Path]) -> list[Path]:
        """Return the only folder in a test split, if no other split has a class of that name.

        Keras's flow_from_directory asks for such a folder: `test/unknown/1.jpg`.
        """
        found: dict[bool, dict[Path, str]] = {True: {}, False: {}}
        for folder, owner in classes.items():
            found["test" in map(self.meaning_of, folder.parts)][folder] = owner.name
        tests, others = found[True], set(found[False].values())
        names = set(tests.values())
        return list(tests) if len(names) == 1 and not names & others and len(others) > 1 else []

    def _place(self, folder: Path) -> Place:
        """Return what a folder is."""
        if folder not in self.classes:
            meanings = set(map(self.meaning_of, folder.parts))
            return Place("", folder.parts, bool(meanings & {"test", UNLABELLED}))
        owner = self.classes[folder]
        below = folder.parts[len(owner.parts) :]
        return Place(owner.name, (*owner.parts[:-1], *below))

    def refuse_unknown_parents(self, where: str) -> None:
        """Raise StageError if one class lies under several folders, and none says what they are.

        where: how the message names the source.
        """
        parents: dict[str, dict[Path, Path]] = defaultdict(dict)
        for owner in self.classes.values():
            plain = [part for part in owner.parts[:-1] if self._is_plain(part)]
            parents[owner.name].setdefault(Path(*plain), owner.parent)
        twice = {name: found for name, found in parents.items() if len(found) > 1}
        if not twice:
            return
        found = next(iter(twice.values()))
        names = [parent.name for parent in found]
        known = self._splits_beside(found)
        if known:
            advice = ", ".join(f"{name}: {split}" for name, split in known.items())
            write = f"`splits: {{{advice}}}` (or what each is)"
        elif all(names) and len(set(names)) == len(names):
            splits = ("train", *("train",) * (len(names) - 2), "test")
            pairs = zip(map(yaml_word, names[:4]), splits, strict=False)
            advice = ", ".join(f"{name}: {split}" for name, split in pairs)
            more = ", …" if len(names) > 4 else ""
            write = (
                f"`splits: {{{advice}{more}}}` (train, valid or test for each), or "
                f"`include: ^{re.escape(found[min(found)].as_posix())}/` to use one alone"
            )
        else:
            write = f"`include: ^(?!{re.escape(max(found).as_posix())}/)` to leave one out"
        holders = listed([repr(str(parent)) for parent in found.values()])
        raise StageError(
            f"{where}: the same classes ({listed(sorted(twice), 3)}) lie under {holders}, whose "
            f"names say no split; in the source's yaml, write {write}, or `splits: {{}}` to take "
            "them as one"
        )

    def _splits_beside(self, found: dict[Path, Path]) -> dict[str, str]:
        """Return the splits of folders side by side, one of them unknown and so for the test.

        found: the folders above a class. Empty if they lie otherwise, or if there is a test.
        """
        unknown = [parent for parent in found.values() if not self.meaning_of(parent.name)]
        if len(found) != 2 or len(unknown) != 1 or not unknown[0].name:
            return {}
        known = {
            owner.parent.name: self.meaning_of(owner.parent.name)
            for owner in self.classes.values()
            if owner.parent.parent == unknown[0].parent and owner.parent != unknown[0]
        }
        if not all(known.values()) or "test" in known.values():
            return {}
        splits = sorted({**known, unknown[0].name: "test"}.items())
        return {yaml_word(name): split for name, split in splits}

    def _is_plain(self, name: str) -> bool:
        """Return whether a folder's name says neither a split nor that it holds pictures."""
        return not self.meaning_of(name) and not self.is_container(name)
