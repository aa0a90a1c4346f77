"""Source `sample`: three kinds of bear, drawn from a seed, with faults planted in known numbers.

The embedded default, so that the whole chain runs without network and tests can count what cleaning
finds. The same seed gives the same bytes on every machine with the same Pillow: random numbers come
from random.Random, every coordinate is rounded to a whole pixel, and no font is used.

Only this module knows what was planted: the pipeline never writes it down, and the names of the
pictures tell nothing. `python -m pawprint.sources.sample --truth FILE` writes it, for whoever wants
to check a cleaning.
"""

import argparse
import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Literal

from PIL import Image
from pydantic import Field

from pawprint.params import Params
from pawprint.sources import Found
from pawprint.sources.bears import KINDS, draw_bear

# Faulty pictures in 360; other sizes get their share, at least one of each.
FAULTS = {
    "wrong_label": 14.4,  # 4 %
    "near_duplicate": 10,
    "exact_duplicate": 6,
    "wrong_extension": 6,
    "truncated": 4,
    "html": 3,
    "tiny": 3,
    "empty": 2,
}
HTML = (
    b"<!doctype html><html><head><title>404 Not Found</title></head>"
    b"<body><h1>Not Found</h1></body></html>\n"
)


class SampleOptions(Params):
    """What data/sources/NAME.yaml may say for `kind: sample`."""

    kind: Literal["sample"]
    size: int = Field(360, ge=30)
    seed: int = Field(42, ge=0)


@dataclass(frozen=True)
class Planned:
    """One picture to draw.

    url: its name; label: as filed; true_label: as drawn; fault: one of FAULTS, or ""; of: the url
    of the original, if it is a copy; key: seeds the drawing.
    """

    url: str
    label: str
    true_label: str
    fault: str
    of: str
    key: str


def find_pictures(options: SampleOptions, root: Path) -> Iterator[Found]:
    """Yield the pictures of a plan, in the order of their names. root: not used."""
    for planned in plan(options.size, options.seed):
        yield Found(planned.url, planned.label, partial(draw, planned))


def plan(size: int, seed: int) -> list[Planned]:
    """Return what is drawn and what is wrong with it, by label and number.

    Every picture has at most one fault.
    """
    random = Random(f"plan:{seed}")
    labels = [KINDS[i % len(KINDS)] for i in range(size)]
    faults = [
        name for name, share in FAULTS.items() for _ in range(max(1, round(share * size / 360)))
    ]
    faults += [""] * (size - len(faults))
    random.shuffle(faults)
    drawn = []
    for i, (label, fault) in enumerate(zip(labels, faults, strict=True)):
        filed = label
        if fault == "wrong_label":
            filed = random.choice([other for other in KINDS if other != label])
        drawn.append(Planned("", filed, label, fault, "", f"{seed}:{i}"))
    numbered = []
    for label in KINDS:
        same_label = [planned for planned in drawn if planned.label == label]
        random.shuffle(same_label)
        for n, planned in enumerate(same_label):
            numbered.append(replace(planned, url=f"sample/{label}/{n:04}.jpg"))
    return [copy_of_another(planned, numbered, random) for planned in numbered]


def copy_of_another(planned: Planned, among: list[Planned], random: Random) -> Planned:
    """Return a duplicate with the clean picture of its label that it copies; others as they are.

    No two duplicates copy the same picture.
    """
    if not planned.fault.endswith("duplicate"):
        return planned
    clean = [other for other in among if other.fault == "" and other.label == planned.label]
    copies = [
        other
        for other in among
        if other.fault.endswith("duplicate") and other.label == planned.label
    ]
    original = Random(planned.label).sample(clean, len(copies))[copies.index(planned)]
    return replace(planned, of=original.url, key=original.key)


def draw(planned: Planned) -> bytes:
    """Return the bytes of the file, its fault included."""
    random = Random(f"file:{planned.key}:{planned.fault}")
    quality = Random(f"quality:{planned.key}").randint(78, 95)
    match planned.fault:
        case "html":
            return HTML
        case "empty":
            return b""
    image = draw_bear(planned.true_label, Random(f"bear:{planned.key}"))
    match planned.fault:
        case "truncated":
            content = encode(image, quality)
            return content[: len(content) * random.randint(30, 80) // 100]
        case "wrong_extension":
            return encode(image, quality, random.choice(["PNG", "WEBP"]))
        case "tiny":
            return encode(image.resize((random.randint(12, 28), random.randint(12, 28))), quality)
        case "near_duplicate":
            return encode(alter(image, random), random.randint(60, 75))
    return encode(image, quality)


def encode(image: Image.Image, quality: int, form: str = "JPEG") -> bytes:
    """Return a picture as a file. form: Pillow's name of the format."""
    buffer = io.BytesIO()
    image.save(buffer, form, quality=quality)
    return buffer.getvalue()


def alter(image: Image.Image, random: Random) -> Image.Image:
    """Return the picture as another site would show it: smaller, cropped, brighter or darker."""
    width, height = image.size
    margin = max(1, round(0.006 * min(width, height)))
    scale, light = random.uniform(0.85, 0.97), random.choice([0.95, 0.97, 1.03, 1.05])
    inner = image.crop((margin, margin, width - margin, height - margin))
    small = inner.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    return small.point([min(255, round(value * light)) for value in range(256)] * 3)


def truth(size: int, seed: int) -> list[dict[str, str]]:
    """Return what each file of a plan is: url, sha256, label, true_label, fault, of."""
    names = ("url", "label", "true_label", "fault", "of")
    return [
        {
            "sha256": hashlib.sha256(draw(planned)).hexdigest(),
            **{name: getattr(planned, name) for name in names},
        }
        for planned in plan(size, seed)
    ]


def main() -> None:
    """Write the truth about a sample as CSV."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--truth", type=Path, required=True, help="the CSV to write")
    parser.add_argument("--size", type=int, default=360)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    with arguments.truth.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, ["url", "sha256", "label", "true_label", "fault", "of"], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(truth(arguments.size, arguments.seed))


if __name__ == "__main__":
    main()
