"""Where pictures come from: one module per kind of source, and what they share.

The kinds are `sample`, `folder`, `archive`, `urls`, `search` and `hub`. Each has a class of options
and `find_pictures(options, root)`, which yields a `Found` per picture, always in the same order.
`opening` reads a source's yaml, `fetching` turns what is found into rows of data/gathered.csv,
`lock` reads and writes that file, `store` keeps data/raw, and `report` says what is missing.
`download`, `network` and `web` speak to the web. `labels`, `layout`, `table_labels` and `splits`
tell classes and splits from names and tables; `licences` knows whose pictures they are; `guessing`
and `looking` serve `pawprint use`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# What an unfinished run has done so far: downloads, search results, archives, and its report.
# It is removed when data/gathered.csv is written.
PARTIAL = Path("data/gather.partial")


@dataclass(frozen=True)
class Credit:
    """Whose picture it is, as far as the source says; see pawprint/sources/licences.py.

    licence: in its normal form. author: a name. page: the address of a page about the picture.
    """

    licence: str = ""
    author: str = ""
    page: str = ""


UNCREDITED = Credit()


@dataclass(frozen=True)
class Found:
    """One picture as a source offers it.

    url: its address or its path in the source; with the label it names the picture.
    label: its class as filed.
    read: returns the file's bytes; called once, in order; may raise OSError. None if `url` is to
    be downloaded.
    query: the search that found it, if any.
    split, group: the user's own split and group, if any. They win over the drawn split.
    missing: why there is no picture, or "". status: what such a row gets as its status.
    credit: whose picture it is.
    """

    url: str
    label: str
    read: Callable[[], bytes] | None = None
    query: str = ""
    split: str = ""
    group: str = ""
    missing: str = ""
    status: str = "failed"
    credit: Credit = UNCREDITED
