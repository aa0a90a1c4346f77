"""What the page looks through: the pictures of a project, or unlabelled ones that may join it."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pawprint.commands.review.catalogue import Catalogue, Catalogues, version_text
from pawprint.commands.review.decisions import Decision, Decisions
from pawprint.commands.review.rerun import Rerun
from pawprint.commands.web import RequestRefused
from pawprint.judging.neighbours import FeatureFile, Features, draw_map, has_umap, nearest
from pawprint.params import StageError, listed
from pawprint.training.features import FEATURES, IMAGES


class Shelf:
    """Pictures to decide about. A subclass says which, and what becomes of the decisions."""

    title = "Review"
    table = "data/split.csv"  # which lists the pictures
    decisions: Decisions

    def read(self) -> tuple[str, Catalogue]:
        """Return the pictures and their version. Raises StageError if they are not understood."""
        raise NotImplementedError

    def classes(self) -> list[str]:
        """Return the classes that a picture may get."""
        return self.read()[1].classes

    def file(self, row: int, catalogue: Catalogue) -> Path:
        """Return the file of a picture."""
        raise NotImplementedError

    def features(self, catalogue: Catalogue) -> tuple[str, Features, np.ndarray]:
        """Return the features, their version, and the row of each picture in them, or -1.

        Raises StageError that says how to make them.
        """
        raise NotImplementedError

    def label_of_kept(self, row: int, catalogue: Catalogue) -> str:
        """Return the label that is written beside the action keep."""
        return ""

    def decided(self, images: Iterable[str]) -> None:
        """Follow decisions that were just written."""

    def next(self, decisions: dict[str, Decision]) -> tuple[str, str]:
        """Return what the decisions so far lead to, in words, and the next command."""
        raise NotImplementedError

    def find_similar(
        self, image: str, count: int, catalogue: Catalogue
    ) -> tuple[list[str], list[float]]:
        """Return the names of the pictures most like one, and their distances."""
        _, features, rows = self.features(catalogue)
        asked = rows[catalogue.rows[image]]
        if asked < 0:
            raise StageError(f"{FEATURES} does not hold {image}; `dvc repro features` adds it")
        back = {int(row): i for i, row in enumerate(rows) if row >= 0}
        found, distances = nearest(features, int(asked), rows[rows >= 0], count)
        names = [catalogue.names[back[int(row)]] for row in found]
        return names, [round(float(each), 4) for each in distances]


class ProjectShelf(Shelf):
    """The pictures of data/split.csv; decisions go to data/decisions.csv, which clean reads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.decisions = Decisions(root / "data/decisions.csv")
        self.catalogues, self.rerun = Catalogues(root), Rerun(root)
        self.lock = threading.Lock()
        self.opened: tuple[str, FeatureFile, np.ndarray] | None = None

    def read(self) -> tuple[str, Catalogue]:
        return self.catalogues.read()

    def file(self, row: int, catalogue: Catalogue) -> Path:
        return self.root / catalogue.paths[row]

    def features(self, catalogue: Catalogue) -> tuple[str, Features, np.ndarray]:
        files = (self.root / name for name in (FEATURES, IMAGES, Path("data/split.csv")))
        version = version_text(files)
        with self.lock:
            if self.opened is None or self.opened[0] != version:
                self.opened = None
                file = FeatureFile(self.root)
                place = {path: i for i, path in enumerate(file.paths)}
                rows = np.array([place.get(path, -1) for path in catalogue.paths], dtype=np.int64)
                file.paths = []  # no longer needed
                self.opened = (version, file, rows)
            return self.opened

    def next(self, decisions: dict[str, Decision]) -> tuple[str, str]:
        if not decisions:
            return "", ""
        said = count_text(len(decisions), "decision")
        catalogue = self.read()[1]
        says = catalogue.text("prediction")
        agree, asked = 0, 0
        for image, decision in decisions.items():
            row = catalogue.rows.get(image)
            if row is not None and says[row] and decision["action"] != "delete":
                asked += 1
                agree += says[row] == (decision["label"] or catalogue.labels[row])
        if asked:
            said += f"; the last model agrees with {agree} of {count_text(asked, 'label')}"
        if self.rerun.is_done():
            return f"{said}; the last run had them all", "pawprint summary"
        stages = self.rerun.stages()
        if stages:
            said += f"; dvc repro would rerun {listed(stages, 8)}"
        return said, "dvc repro"


def count_text(count: int, word: str) -> str:
    """Return a number with its word, which gets an s if there are several."""
    return f"{count:,} {word}" + ("" if count == 1 else "s")


class Maps:
    """Maps of a shelf's pictures, each drawn once per version of the features."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf, self.lock = shelf, threading.Lock()
        self.known: dict[str, tuple[str, np.ndarray]] = {}

    @staticmethod
    def methods() -> list[str]:
        """Return the ways to draw a map that are installed."""
        return ["pca", "umap"] if has_umap() else ["pca"]

    def draw(self, method: str, catalogue: Catalogue) -> tuple[np.ndarray, np.ndarray]:
        """Return places (n, 2) and the rows of the catalogue that they belong to, (n,).

        Raises RequestRefused (400) for a way that is not known, StageError without features.
        """
        if method not in self.methods():
            raise RequestRefused(400, f"the map can be drawn by {', '.join(self.methods())}")
        version, features, rows = self.shelf.features(catalogue)
        with self.lock:  # a second tab waits for the first one's map
            if self.known.get(method, ("",))[0] != version:
                self.known[method] = (version, draw_map(features, method))
            places = self.known[method][1]
        here = np.flatnonzero(rows >= 0)
        return places[rows[here]], here


def state_of(shelf: Shelf) -> dict[str, Any]:
    """Return what the page shows beside the pictures: counts, and what the decisions lead to."""
    version, catalogue = shelf.read()
    decisions = shelf.decisions.read()
    said, command = shelf.next(decisions)
    return {
        "version": version,
        "pictures": len(catalogue),
        "decided": sum(name in catalogue.rows for name in decisions),
        "decisions": shelf.decisions.version(),
        "next": said,
        "command": command,
    }
