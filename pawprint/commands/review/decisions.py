"""Changing data/decisions.csv: one write at a time, by however many threads and processes."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pawprint.commands.review.catalogue import version_text
from pawprint.state import DECISION_COLUMNS, read_decisions, write_decisions

Decision = dict[str, str]


class Decisions:
    """The file of decisions. What state.read_decisions does not understand, nothing rewrites."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.threads, self.reading = threading.Lock(), threading.Lock()
        self.known: tuple[str, dict[str, Decision]] = ("?", {})

    def read(self) -> dict[str, Decision]:
        """Return the decisions by picture; they must not be changed.

        They are read again only if the file has changed. Raises StageError if it is not understood.
        """
        version = self.version()
        with self.reading:
            if version != self.known[0]:
                self.known = (version, read_decisions(self.path))
            return self.known[1]

    def version(self) -> str:
        """Return a text that differs when the file has changed."""
        return version_text([self.path])

    def change(
        self, images: Sequence[str], decide: Callable[[str, Decision | None], Decision | None]
    ) -> list[tuple[Decision | None, Decision | None]]:
        """Set the decisions about some pictures in one write; return each before and after.

        decide: gets a picture and its decision, or None, and returns the new one, or None to remove
        it; what it raises leaves the file as it is. Cells in columns that others added stay, unless
        the new decision has them. Raises StageError if the file is not understood.
        """
        with self.lock():
            decisions = read_decisions(self.path)
            before = {image: decisions.get(image) for image in images}
            after: dict[str, Decision | None] = {}
            for image, old in before.items():
                new = decide(image, old)
                after[image] = None if new is None else {**(old or {}), **new}
            for image, decision in after.items():
                decisions.pop(image, None)
                if decision is not None:
                    decisions[image] = decision
            if after != before:
                write_decisions(decisions, self.path)
            return [(before[image], after[image]) for image in images]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other threads and processes from changing the file between reading and writing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = self.path.with_name(f".{self.path.name}.lock")
        with self.threads, name.open("a+b") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            except ImportError:  # Windows
                import msvcrt

                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
            yield


def known_cells(decision: Decision | None) -> list[str] | None:
    """Return the cells of a decision in our own columns."""
    if decision is None:
        return None
    return [decision.get(name, "") for name in DECISION_COLUMNS]
