"""Where pictures come from: one module a kind, each with `found(options, root) -> Iterator[Found]`."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """One picture as a source offers it.

    url: where it stands, unique within the source, as it will stand in data/gathered.csv.
    label: its class as filed.
    read: gives the file's bytes; called once, may raise OSError.
    query: the search that found it, if any.
    split, group: the user's own split and group, if any (they win over the seeded split).
    """

    url: str
    label: str
    read: Callable[[], bytes]
    query: str = ""
    split: str = ""
    group: str = ""
