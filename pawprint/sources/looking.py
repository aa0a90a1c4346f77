"""A look at pictures before they are gathered: formats, sizes, and what verify will refuse."""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from pawprint.compute.cores import cores
from pawprint.pictures.opening import Preparation, Unusable, open_image, open_picture
from pawprint.sources import Found
from pawprint.sources.content import HEAD, content_type_of

CHUNK = 32  # pictures whose bytes are held at a time


@dataclass
class Look:
    """What was seen.

    formats: how many pictures of each content type. sizes: width and height in pixels of the sound
    ones. refused: by reason, a line about each picture. labels: the label of each picture's
    SHA-256, one per time it was seen, of the sound ones.
    """

    looked: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def copies(self) -> int:
        """How many pictures are the same bytes as another one of their class."""
        same = [labels for labels in self.labels.values() if len(set(labels)) == 1]
        return sum(len(labels) - 1 for labels in same)

    @property
    def two_labels(self) -> int:
        """How many pictures are the same bytes as one of another class."""
        return sum(len(labels) for labels in self.labels.values() if len(set(labels)) > 1)


def look_at(items: Iterable[Found], how: Preparation) -> Look:
    """Read and decode pictures as verify does. how: verify's limits."""
    look = Look()
    waiting = iter(items)
    with ThreadPoolExecutor(cores()) as pool:
        while chunk := [(item, _read(item)) for item in islice(waiting, CHUNK)]:
            contents = [content for _, content in chunk]
            for (item, content), (size, reason, detail) in zip(
                chunk, pool.map(lambda each: _open(each, how), contents), strict=True
            ):
                look.looked += 1
                if isinstance(content, bytes):
                    look.formats[content_type_of(content[:HEAD])] += 1
                    if not reason:
                        look.labels[hashlib.sha256(content).hexdigest()].append(item.label)
                if reason:
                    look.refused[reason].append(f"{item.url} ({detail})")
                else:
                    look.sizes.append(size)
    return look


def spread(items: Iterable[Found], total: int, most: int) -> Iterator[Found]:
    """Yield at most `most` of `total` items, evenly spread."""
    step = max(1, total / most)
    for number, item in enumerate(items):
        if int(number / step) != int((number - 1) / step) or number == 0:
            yield item


def _read(item: Found) -> bytes | str:
    """Return a picture's bytes, or why it cannot be read."""
    try:
        return item.read() if item.read else item.missing
    except OSError as error:
        return error.strerror or str(error)


def _open(content: bytes | str, how: Preparation) -> tuple[tuple[int, int], str, str]:
    """Return a picture's size, or the reason and the detail for which verify will refuse it."""
    if isinstance(content, str):
        return (0, 0), "unreadable", content
    try:
        if not content:
            raise Unusable("empty", "the file has 0 bytes")
        open_picture(io.BytesIO(content), how)
        with open_image(io.BytesIO(content), how) as image:
            return image.size, "", ""
    except Unusable as why:
        return (0, 0), why.reason, why.detail
