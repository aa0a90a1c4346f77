"""Changing data/decisions.csv: one decision at a time, by however many threads and processes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pawprint.commands.web import RequestRefused
from pawprint.state import DECISION_COLUMNS, read_decisions, write_decisions

Decision = dict[str, str]


class Decisions:
    """The file of decisions. What state.read_decisions does not understand, nothing rewrites."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.threads = threading.Lock()

    def read(self) -> dict[str, Decision]:
        """Return the decisions by picture. Raises StageError if the file is not understood."""
        return read_decisions(self.path)

    def change(
        self, image: str, decision: Decision | None, *expected: Decision | None
    ) -> tuple[Decision | None, Decision | None]:
        """Set the decision about `image`, or remove it with None; return it before and after.

        Cells in columns that others added stay, unless `decision` has them.
        expected: if given, the decision that must still hold, so that an undo takes back nobody
        else's later one; otherwise RequestRefused (409) is raised. Raises StageError if the file
        is not understood: it is left as it is.
        """
        with self.lock():
            decisions = self.read()
            before = decisions.pop(image, None)
            if expected and known_cells(before) != known_cells(expected[0]):
                raise RequestRefused(409, f"{image} was decided again elsewhere; nothing is undone")
            after = None
            if decision is not None:
                after = decisions[image] = {**(before or {}), **decision}
            if after != before:
                write_decisions(decisions, self.path)
            return before, after

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
