"""The pictures that the page looks through, in memory, and the orders to look in.

A picture is a row number. What the tables of the stages say is kept by column, numbers as float32
and texts once each, so that 100,000 pictures take some tens of megabytes. Pages are cut from it.
"""

import gc
import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from pawprint.commands.web import RequestRefused
from pawprint.params import StageError
from pawprint.tables import SPLITS, iterate_rows

Version = tuple[int, int, int]
Decision = dict[str, str]

SPLIT_COLUMNS = ("path", "label", "group", "split")
KINDS = ("dark", "light", "blurry", "low_information", "odd_size", "odd_aspect_ratio")
TEXTS = ("group", "prediction", "suggestion", "finding", "faults")
NUMBERS = (
    *("probability", "loss", "score", "distance", "severity"),
    *(f"{kind}_score" for kind in KINDS),
)
AT_A_TIME = 10_000  # rows of a table as text in memory
MOST = 10_000  # pictures whose names are sent, or decided about, at once


@dataclass(frozen=True)
class Order:
    """One way to look through the pictures.

    title: as the page says it; column: of numbers; descending: the highest first; only: column of
    texts, pictures without one are left out; word: what the number is called under a picture;
    shown: the column of that number, if it is another one.
    """

    title: str
    column: str = ""
    descending: bool = False
    only: str = ""
    word: str = ""
    shown: str = ""


ORDERS: dict[str, Order] = {
    "loss": Order("highest loss", "loss", True, word="loss"),
    "score": Order("likely wrong label", "score", word="score"),
    "unsure": Order("least sure", "probability", word="sure"),
    "pairs": Order("near duplicates", only="group"),
    "odd": Order("odd ones out", "distance", True, word="distance"),
    "faults": Order("picture faults", "severity", True, only="faults"),
    "dark": Order("darkest", "dark_score", word="lightness"),
    "light": Order("lightest", "light_score", word="darkness"),
    "blurry": Order("blurriest", "blurry_score", word="sharpness"),
    "low_information": Order("least information", "low_information_score", word="information"),
    "odd_size": Order("oddest size", "odd_size_score", word="size score"),
    "odd_aspect_ratio": Order("oddest shape", "odd_aspect_ratio_score", word="shape score"),
    "name": Order("class, name"),
}


@dataclass(frozen=True)
class Filter:
    """Which pictures, and in which order. label, split: "" for all; show: all, open or decided."""

    label: str = ""
    split: str = ""
    order: str = "loss"
    show: str = "all"


class Catalogue:
    """The pictures of one version of the tables."""

    def __init__(
        self,
        rows: Iterable[tuple[str, str, str]],
        orders: Mapping[str, Order] = ORDERS,
        names: Sequence[str] | None = None,
    ) -> None:
        """rows: path, label and split of each picture; orders: the ways to look through them.

        names: of the pictures, if their files are not named after them.
        """
        texts: dict[str, str] = {}
        self.paths: list[str] = []
        self.names: list[str] = []
        self.labels: list[str] = []
        self.splits: list[str] = []
        for path, label, split in rows:
            self.paths.append(path)
            # as picture_name has it, ten times as fast; split names files LABEL/NAME.jpg
            self.names.append(path.rpartition("/")[2].rpartition(".")[0])
            self.labels.append(texts.setdefault(label, label))
            self.splits.append(texts.setdefault(split, split))
        self.names = self.names if names is None else list(names)
        self.rows = {name: i for i, name in enumerate(self.names)}
        self.classes = sorted(set(self.labels))
        self.texts: dict[str, list[str]] = {}
        self.numbers: dict[str, np.ndarray] = {}
        self.correlations: list[str] = []
        self.orders = orders
        self._seen = texts
        self._where = {path: i for i, path in enumerate(self.paths)}
        self._arranged: dict[str, np.ndarray] = {}
        self._codes: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.names)

    def row_of(self, path: str) -> int | None:
        """Return the row of the picture with this path."""
        return self._where.get(path)

    def text(self, column: str) -> list[str]:
        """Return a column of texts, of which each picture's is "" until it is set."""
        return self.texts.setdefault(column, [""] * len(self))

    def number(self, column: str) -> np.ndarray:
        """Return a column of numbers, float32 (N,), NaN until set."""
        if column not in self.numbers:
            self.numbers[column] = np.full(len(self), np.nan, dtype=np.float32)
        return self.numbers[column]

    def same(self, text: str) -> str:
        """Return a text that is kept once, however many pictures have it."""
        return self._seen.setdefault(text, text)

    def codes(self, column: str) -> np.ndarray:
        """Return labels or splits as their place among the sorted ones, int32 (N,)."""
        if column not in self._codes:
            values = self.labels if column == "label" else self.splits
            known = self.classes if column == "label" else list(SPLITS)
            place = {value: i for i, value in enumerate(known)}
            found = (place.get(value, -1) for value in values)
            self._codes[column] = np.fromiter(found, dtype=np.int32, count=len(self))
        return self._codes[column]

    def arrange(self, name: str) -> np.ndarray:
        """Return the rows in an order, int32; those that it leaves out are missing."""
        if name not in self._arranged:
            order = self.orders[name]
            by_name = np.empty(len(self), dtype=np.int32)
            by_name[np.argsort(np.array(self.names, dtype=object), kind="stable")] = np.arange(
                len(self)
            )
            keys: list[np.ndarray] = [by_name]
            if name == "pairs":
                keys.append(np.unique(np.array(self.text("group")), return_inverse=True)[1])
            if name == "name":
                keys.append(self.codes("label"))
            if order.column:
                value = self.number(order.column).astype(np.float64)
                value = -value if order.descending else value
                keys.append(np.where(np.isnan(value), np.inf, value))
            rows = np.lexsort(keys).astype(np.int32)
            if order.only:
                has = np.fromiter(map(bool, self.text(order.only)), dtype=bool, count=len(self))
                rows = rows[has[rows]]
            self._arranged[name] = rows
        return self._arranged[name]

    def select(self, wanted: Filter, decided: Iterable[str]) -> np.ndarray:
        """Return the rows that a filter lets through, in its order, int32.

        decided: names of pictures. Raises RequestRefused (400) for an order that is not known.
        """
        if wanted.order not in self.orders:
            raise RequestRefused(400, f"order should be {', '.join(self.orders)}")
        rows = self.arrange(wanted.order)
        keep = np.ones(len(self), dtype=bool)
        if wanted.label:
            keep &= np.fromiter((each == wanted.label for each in self.labels), bool, len(self))
        if wanted.split:
            keep &= np.fromiter((each == wanted.split for each in self.splits), bool, len(self))
        if wanted.show in ("open", "decided"):
            is_decided = np.zeros(len(self), dtype=bool)
            is_decided[[self.rows[name] for name in decided if name in self.rows]] = True
            keep &= is_decided == (wanted.show == "decided")
        return rows[keep[rows]]

    def describe(self, row: int, order: str, decision: Decision | None) -> dict[str, Any]:
        """Return what the page shows of a picture. Figures are None if they are not known."""
        said: dict[str, Any] = {
            "image": self.names[row],
            "label": self.labels[row],
            "split": self.splits[row],
            **{column: self.text(column)[row] for column in TEXTS},
            **{column: self.figure(column, row) for column in NUMBERS[:5]},
        }
        return {**said, "figure": self.caption(row, order), "decision": decision}

    def figure(self, column: str, row: int) -> float | None:
        """Return a number of a picture, or None, with the six digits that the tables have."""
        value = float(self.number(column)[row])
        return float(f"{value:.6g}") if math.isfinite(value) else None

    def caption(self, row: int, name: str) -> str:
        """Return what stands under a picture in an order."""
        if name == "pairs":
            return f"alike: {self.text('group')[row][:6]}"
        if name == "faults":
            return self.text("faults")[row]
        order = self.orders.get(name, Order(""))
        column, word = order.shown or order.column or "loss", order.word or "loss"
        value = self.figure(column, row)
        label, answers = self.labels[row], [self.text(each)[row] for each in TEXTS[1:3]]
        other = next((answer for answer in answers if answer and answer != label), "")
        shown = [f"{other}?"] if other else []
        shown += [] if value is None else [f"{word} {value:.2f}"]
        if name in KINDS:
            shown = [*shown[-1:], self.text("faults")[row]]
        return " ".join(filter(None, shown))


class Catalogues:
    """The catalogue of a project's tables, read again only when one of them has changed."""

    FILES = ("split", "predictions", "label_errors", "findings", "properties")

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.Lock()
        self.version = ""
        self.known = Catalogue([])

    def read(self) -> tuple[str, Catalogue]:
        """Return the catalogue and its version. Raises StageError if a table is not understood."""
        with self.lock:
            version = version_text(self.root / f"data/{name}.csv" for name in self.FILES)
            if version != self.version:
                gc.disable()  # it would look through all rows again and again
                try:
                    self.known = read_catalogue(self.root)
                finally:
                    gc.enable()
                self.version = version
            return version, self.known


def version_text(paths: Iterable[Path]) -> str:
    """Return a text that differs when one of the files was changed, replaced or removed."""
    found = []
    for path in paths:
        try:
            found.append("-".join(map(str, version_of(path))))
        except FileNotFoundError:
            found.append("")
    return " ".join(found)


def version_of(path: Path) -> Version:
    """Return what differs when a file was changed or replaced."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_catalogue(root: Path) -> Catalogue:
    """Read the project's tables. All but data/split.csv may be missing.

    Of each picture: label and split; group, "" unless it has near duplicates; prediction,
    probability and loss from interpret; score, suggestion, distance and finding from clean; faults,
    severity and scores from verify.
    Raises StageError if a table is not understood.
    """
    data = root / "data"
    groups: list[str] = []

    def rows() -> Iterable[tuple[str, str, str]]:
        for path, label, group, split in read_columns(data / "split.csv", SPLIT_COLUMNS):
            groups.append(group)
            yield path, label, split

    catalogue = Catalogue(rows())
    sizes = Counter(groups)
    catalogue.texts["group"] = [group if sizes[group] > 1 else "" for group in groups]
    fill(catalogue, data / "predictions.csv", ("prediction",), ("probability", "loss"))
    fill(catalogue, data / "label_errors.csv", ("suggestion",), ("score", "distance"))
    measured = ("severity", *(f"{kind}_score" for kind in KINDS))
    fill(catalogue, data / "properties.csv", ("faults",), measured, ("path", "faults"))
    plain = {"": ""}
    faults = catalogue.text("faults")
    for i, text in enumerate(faults):
        faults[i] = plain.setdefault(text, text.replace(" ", ", ").replace("_", " "))

    found = catalogue.text("finding")
    columns = ("path", "action", "reason")
    for path, action, reason in read_columns(data / "findings.csv", columns):
        if not path:
            catalogue.correlations.append(reason)
        row = catalogue.row_of(path)
        if row is not None and not reason.startswith("decision"):
            found[row] = "; ".join(filter(None, [found[row], f"{action}, {reason}"]))
    return catalogue


def fill(
    catalogue: Catalogue,
    path: Path,
    texts: tuple[str, ...],
    numbers: tuple[str, ...],
    required: tuple[str, ...] = ("path",),
) -> None:
    """Set columns of a catalogue from a table, whose columns may be missing unless `required`."""
    table = iter(read_columns(path, ("path", *texts, *numbers), required))
    while chunk := list(islice(table, AT_A_TIME)):
        pictures, *columns = zip(*chunk, strict=True)
        known = [catalogue.row_of(picture) for picture in pictures]
        here = [i for i, row in enumerate(known) if row is not None]
        rows = [row for row in known if row is not None]
        for name, cells in zip((*texts, *numbers), columns, strict=True):
            if name in numbers:
                values = parse_numbers(cells, name, pictures)
                catalogue.number(name)[rows] = values[here]
                continue
            column = catalogue.text(name)
            for i, row in zip(here, rows, strict=True):
                column[row] = catalogue.same(cells[i])


def parse_numbers(cells: Sequence[str], column: str, paths: Sequence[str]) -> np.ndarray:
    """Return the numbers in some cells, float32; NaN if one is empty or not finite.

    Raises StageError that names the picture if one is not a number.
    """
    try:
        found = np.array([float(cell or "nan") for cell in cells], dtype=np.float32)
    except ValueError:
        found = np.array(list(map(parse_number, cells, [column] * len(cells), paths)))
    return np.where(np.isfinite(found), found, np.nan)


def parse_number(text: str, column: str, path: str) -> float:
    """Return the number in a cell, NaN if it is empty. Raises StageError if it is none."""
    try:
        return float(text or "nan")
    except ValueError:
        raise StageError(
            f"{column} of {path} is {text!r}, not a number; `dvc repro` writes it again"
        ) from None


def read_columns(
    path: Path, columns: tuple[str, ...], required: tuple[str, ...] | None = None
) -> Iterator[tuple[str, ...]]:
    """Yield the cells of some columns, "" for a column that is missing; nothing without the file.

    required: the columns that must be there; by default all.
    Raises StageError if it is not a table with these columns.
    """
    try:
        table = iterate_rows(path)
        header = next(table, [])
    except FileNotFoundError:
        return
    for name in columns if required is None else required:
        if name not in header:
            raise StageError(f"{path}, line 1: lacks the column {name}; `dvc repro` makes it")
    # one more cell, empty, for the columns that are missing
    places = [header.index(name) if name in header else len(header) for name in columns]
    choose = itemgetter(*places)
    for cells in table:
        cells.append("")
        yield choose(cells)


def pack_map(catalogue: Catalogue, places: np.ndarray, rows: np.ndarray) -> bytes:
    """Return a map as the page takes it.

    places: (n, 2); rows: of the pictures, (n,). x, y, class and split are uint16 (n,) each, little
    endian, x and y from 0 to 65535; then the pictures' names, one per line.
    """
    low, high = places.min(axis=0), places.max(axis=0)
    share = (places - low) / np.maximum(high - low, 1e-9)
    columns = [
        *(share * 65535).round().T,
        catalogue.codes("label")[rows],
        catalogue.codes("split")[rows],
    ]
    numbers = b"".join(column.astype("<u2").tobytes() for column in columns)
    return numbers + "\n".join(catalogue.names[row] for row in rows).encode()
