"""Where pictures come from: one module a kind, each with `found(options, root) -> Iterator[Found]`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# What an unfinished run has done so far: downloads, search results, archives. Gone when data/gathered.csv is written.
PARTIAL = Path("data/gather.partial")


@dataclass(frozen=True)
class Found:
    """One picture as a source offers it.

    url: where it stands, unique within the source and label, as it will stand in data/gathered.csv.
    label: its class as filed.
    read: gives the file's bytes; called once, in order, may raise OSError. None where `url` is to be downloaded.
    query: the search that found it, if any.
    split, group: the user's own split and group, if any (they win over the seeded split).
    missing: why something that should have been found was not; such a row has no picture.
    """

    url: str
    label: str
    read: Callable[[], bytes] | None = None
    query: str = ""
    split: str = ""
    group: str = ""
    missing: str = ""
