"""Unlabelled pictures on the review page: what is labelled there joins the project's pictures."""

import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pawprint.commands.review.catalogue import Catalogue, Order
from pawprint.commands.review.decisions import Decision, Decisions
from pawprint.commands.review.rerun import Rerun
from pawprint.commands.review.shelf import Shelf, count_text
from pawprint.commands.suggest.looking import Candidates
from pawprint.commands.web import RequestRefused
from pawprint.judging.neighbours import FeatureArray, Features
from pawprint.params import listed

SUGGESTED = Path("data/suggested.csv")
ORDERS = {
    "rank": Order("what would teach most", "rank", word="sure", shown="probability"),
    "unsure": Order("least sure", "probability", word="sure"),
    "odd": Order("least like the known ones", "distance", True, word="distance"),
    "name": Order("proposal", word="sure", shown="probability"),
}


class SuggestShelf(Shelf):
    """Candidates for a label. Kept: the proposal is right. Decisions go to data/suggested.csv."""

    title = "Suggestions"
    table = "the suggested pictures"

    def __init__(self, candidates: Candidates, added: Path) -> None:
        """added: the folder of `gather.added`, which gets a copy of what is labelled."""
        self.candidates, self.added = candidates, added
        self.decisions = Decisions(SUGGESTED)
        self.rerun, self.lock = Rerun(Path(), added.as_posix()), threading.Lock()
        rows = (
            (file, proposal, "")
            for file, proposal in zip(candidates.files, candidates.proposals, strict=True)
        )
        self.catalogue = Catalogue(rows, ORDERS, candidates.names)
        self.catalogue.classes = candidates.classes
        self.catalogue.texts["prediction"] = candidates.proposals
        for name in ("probability", "distance"):
            self.catalogue.number(name)[:] = getattr(candidates, name)
        self.catalogue.number("rank")[:] = np.arange(len(candidates.files))

    def read(self) -> tuple[str, Catalogue]:
        return "1", self.catalogue

    def file(self, row: int, catalogue: Catalogue) -> Path:
        return Path(catalogue.paths[row])

    def features(self, catalogue: Catalogue) -> tuple[str, Features, np.ndarray]:
        return "1", FeatureArray(self.candidates.features), np.arange(len(catalogue))

    def label_of_kept(self, row: int, catalogue: Catalogue) -> str:
        return catalogue.labels[row]

    def decided(self, images: Iterable[str]) -> None:
        """Copy what has a label into `gather.added`, and take out what has none any more.

        Raises RequestRefused (507) if the folder cannot be written.
        """
        with self.lock:
            decisions = self.decisions.read()
            for image in images:
                decision = decisions.get(image)
                label = decision["label"] if decision and decision["action"] != "delete" else ""
                try:
                    self.put(image, label)
                except OSError as error:
                    raise RequestRefused(
                        507, f"{self.added} cannot be written: {error.strerror}; decide again then"
                    ) from None

    def put(self, image: str, label: str) -> None:
        """Make a picture be in the folder of its label, and in no other."""
        source = self.file(self.catalogue.rows[image], self.catalogue)
        wanted = self.added / label / f"{image}{source.suffix.lower()}" if label else None
        if wanted and not wanted.is_file():
            wanted.parent.mkdir(parents=True, exist_ok=True)
            temporary = wanted.with_name(f".{wanted.name}.partial")
            try:
                shutil.copyfile(source, temporary)
                os.replace(temporary, wanted)
            finally:
                temporary.unlink(missing_ok=True)
        for other in list(self.added.glob(f"*/{image}.*")):
            if other != wanted:
                other.unlink()
                if not any(other.parent.iterdir()):
                    other.parent.rmdir()  # gather refuses a class without a picture

    def next(self, decisions: dict[str, Decision]) -> tuple[str, str]:
        labelled = [each for each in decisions.values() if each["action"] != "delete"]
        if not labelled:
            return "", ""
        asked = [each for name, each in decisions.items() if name in self.catalogue.rows]
        agree = sum(each["action"] == "keep" for each in asked)
        said = f"{count_text(len(labelled), 'picture')} labelled, now in {self.added}"
        if asked:
            said += f"; the last model agrees with {agree} of {count_text(len(asked), 'decision')}"
        stages = self.rerun.stages()
        return f"{said}; dvc repro would rerun {listed(stages, 3)}", "dvc repro"
