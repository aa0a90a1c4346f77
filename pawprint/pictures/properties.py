"""Properties of pictures that need no model, and which pictures are faulty by them.

Measures, scores and thresholds are cleanvision's, but for sharpness. Its front door, `Imagelab`, is
not used: it would open every stored picture once more, sends the whole list of files to its
processes with every few pictures, and would take odd sizes from the stored pictures, which all have
about the same size. Here, verify measures the pictures that it has open, and the sizes are those of
the gathered files.

Sharpness is measured on cleanvision's edges, but its own score finds only 60 of 100 photos that are
blurred beyond use: it looks at 64 pixels, and the edges that Pillow finds keep the pixels of the
picture along its border, as if they were strong edges.

Source: https://cleanvision.readthedocs.io, `ImagePropertyIssueManager`.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from cleanvision.issue_managers.image_property import (
    BrightnessProperty,
    EntropyProperty,
    get_edges,
)
from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager
from PIL import Image, ImageChops, ImageStat

from pawprint.pictures.opening import Preparation, open_image

MEASURED = 200  # pixels on the longer side: the same faults as at full size, in a bounded time
GREY = 2.0  # mean difference of two channels, of 255, below which a picture has no colour
COMMON = 0.5  # share of the pictures from which a fault is how this data set looks
BLURRY = 0.25  # sharpness below which a picture is blurred: none of 591 sharp photos, see docs
FAINT = 10  # contrast, of 255, that photos exceed
UNLIKE = 1.5  # an odd size is at least so many times the usual one, or so many times smaller
KINDS = ("dark", "light", "blurry", "low_information", "odd_size", "odd_aspect_ratio")
PROPERTIES = ("brightness", "sharpness", "entropy", "size", "aspect_ratio", "grey")
COLUMNS = ("path", "url", *PROPERTIES, *(f"{kind}_score" for kind in KINDS), "faults", "severity")

# one of these measures brightness for `dark` and for `light`
MEASURES = (BrightnessProperty("dark"), EntropyProperty())


def full_size(path: Path, how: Preparation) -> tuple[int, int]:
    """Return width and height of a file that can be opened, as it was gathered. Not turned."""
    with open_image(path, how) as image:
        return image.size


def measure(image: Image.Image, full: tuple[int, int]) -> dict[str, float]:
    """Return the properties of a picture.

    image: as it is stored, RGB; full: the size of the file it comes from, in pixels.
    sharpness: see `sharpness_of`; grey: 1 if it has no colour, else 0; size: side of the square
    with the same area, in pixels; aspect_ratio: shorter side by longer. The others are
    cleanvision's.
    """
    small = image.copy()
    small.thumbnail((MEASURED, MEASURED), Image.Resampling.BOX)
    values: dict[str, float] = {}
    # brightness in detail costs most and changes least
    for each, image_of in zip(MEASURES, (small.reduce(2), small), strict=True):
        values |= {name: float(value) for name, value in each.calculate(image_of).items()}
    values["sharpness"] = sharpness_of(small.convert("L"))
    values["grey"] = float(is_grey(small))
    values["size"] = math.sqrt(full[0] * full[1])
    values["aspect_ratio"] = min(full) / max(full)
    return values


def sharpness_of(grey: Image.Image) -> float:
    """Return how strong a picture's edges are, beside its contrast; 1 if it is of one colour.

    It is the standard deviation of the edges by that of the picture: about 0.8 in photos. Fog and
    night have weak edges and little contrast, and are not taken for blurred. Below FAINT, what is
    left of the contrast are steps of one grey level, which look like edges.
    """
    width, height = grey.size
    contrast = ImageStat.Stat(grey).stddev[0]
    if contrast < 1 or min(width, height) < 3:
        return 1.0
    edges = get_edges(grey).crop((1, 1, width - 1, height - 1))
    return ImageStat.Stat(edges).stddev[0] / max(contrast, FAINT)


def is_grey(image: Image.Image) -> bool:
    """Return whether a picture has no colour, whatever its mode says."""
    red, green, blue = image.split()
    apart = (ImageChops.difference(red, green), ImageChops.difference(green, blue))
    return all(ImageStat.Stat(each).mean[0] < GREY for each in apart)


def find_faults(measured: pd.DataFrame) -> pd.DataFrame:
    """Return data/properties.csv, one row per picture.

    measured: columns path, url (where the picture comes from), and those of `measure`.
    Columns: path; url; PROPERTIES; a score of each of KINDS, 0 to 1, where low is bad; faults: the
    kinds whose score is below its threshold, separated by spaces; severity: how far the worst of
    them is below its threshold, 0 to 1. A kind that more than COMMON of the pictures have is not
    listed, because it is how the data set looks; cleanvision's report leaves it out as well.
    """
    if measured.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    manager = ImagePropertyIssueManager()
    # without it, if most pictures have one size, all others are odd
    manager.update_params({"odd_size": {"threshold": 0.5}})
    manager.issues = pd.DataFrame(index=measured.index)
    manager.update_issues(measured, [kind for kind in KINDS if kind != "blurry"])
    found = manager.issues
    found["blurry_score"] = measured["sharpness"].clip(upper=1)
    found["is_blurry_issue"] = found["blurry_score"] < BLURRY
    thresholds = {kind: manager.params[kind]["threshold"] for kind in KINDS} | {"blurry": BLURRY}
    times = measured["size"] / measured["size"].median()
    found["is_odd_size_issue"] &= (times >= UNLIKE) | (times <= 1 / UNLIKE)

    table = measured[["path", "url", *PROPERTIES]].copy()
    faults, severity = pd.Series("", index=table.index), pd.Series(0.0, index=table.index)
    for kind in KINDS:
        score, marked = found[f"{kind}_score"], found[f"is_{kind}_issue"]
        table[f"{kind}_score"] = score
        if marked.mean() > COMMON:
            continue
        faults[marked] += f" {kind}"
        below = 1 - score / thresholds[kind]
        severity[marked] = np.maximum(severity[marked], below[marked])
    return table.assign(faults=faults.str.strip(), severity=severity)[list(COLUMNS)]
