"""Properties of pictures that need no model, and which pictures are faulty by them.

Measures, scores and thresholds are cleanvision's, but for sharpness. Its front door, `Imagelab`, is
not used: it would open every stored picture once more, sends the whole list of files to its
processes with every few pictures, and would take odd sizes from the stored pictures, which all have
about the same size. Here, verify measures the pictures that it has open, and the sizes are those of
the gathered files. What its classes measure is computed here with the same numbers to the last bit
in a quarter of the time, because most of theirs is loops in Python over histograms.

Sharpness is measured on cleanvision's edges, but its own score finds only 60 of 100 photos that are
blurred beyond use: it looks at 64 pixels, and the edges that Pillow finds keep the pixels of the
picture along its border, as if they were strong edges.

Source: https://cleanvision.readthedocs.io, `ImagePropertyIssueManager`.
"""

import math

import numpy as np
import pandas as pd
from cleanvision.issue_managers.image_property import calculate_brightness
from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager
from PIL import Image

# pixels on the longer side of the copies that are measured: the same faults as at full size
EDGES = 200  # at most, to measure sharpness
COLOURS = 100  # about, to measure light, colour and content
GREY = 2.0  # mean difference of two channels, of 255, below which a picture has no colour
COMMON = 0.5  # share of the pictures from which a fault is how this data set looks
BLURRY = 0.25  # sharpness below which a picture is blurred: none of 591 sharp photos, see docs
FAINT = 10  # contrast, of 255, that photos exceed
UNLIKE = 1.5  # an odd size is at least so many times the usual one, or so many times smaller
KINDS = ("dark", "light", "blurry", "low_information", "odd_size", "odd_aspect_ratio")
PROPERTIES = ("brightness", "sharpness", "entropy", "size", "aspect_ratio", "grey")
COLUMNS = ("path", "url", *PROPERTIES, *(f"{kind}_score" for kind in KINDS), "faults", "severity")

PERCENTILES = (5, 99)  # of brightness, for `light` and for `dark`
WEIGHTS = (0.241, 0.691, 0.068)  # of the squares of red, green and blue in cleanvision's brightness


def measure(
    image: Image.Image, full: tuple[int, int], grey: Image.Image | None = None
) -> dict[str, float]:
    """Return the properties of a picture.

    image: as it is stored, RGB; full: the size of the file it comes from, in pixels; grey: the same
    in mode L, if it is at hand.
    sharpness: see `sharpness_of`; grey: 1 if it has no colour, else 0; size: side of the square
    with the same area, in pixels; aspect_ratio: shorter side by longer. The others are
    cleanvision's.
    """
    coarse = image.reduce(max(1, round(max(image.size) / COLOURS)))
    bands = [np.asarray(band) for band in coarse.split()]
    grey = image.convert("L") if grey is None else grey
    fine = grey.reduce(max(1, max(grey.size) // EDGES))
    fine.thumbnail((EDGES, EDGES), Image.Resampling.BOX)
    return {
        **brightness_of(bands),
        "entropy": coarse.entropy(),
        "sharpness": sharpness_of(fine),
        "grey": float(is_grey(bands)),
        "size": math.sqrt(full[0] * full[1]),
        "aspect_ratio": min(full) / max(full),
    }


def brightness_of(bands: list[np.ndarray]) -> dict[str, float]:
    """Return the brightness of a picture, 0 to 1, and the PERCENTILES of that of its pixels.

    bands: red, green and blue, uint8 (h, w). The numbers are those of cleanvision's
    BrightnessProperty.
    """
    red, green, blue = (np.square(band, dtype=np.uint16) for band in bands)
    squares = WEIGHTS[0] * red + WEIGHTS[1] * green + WEIGHTS[2] * blue
    ordered = np.sort(squares, axis=None)
    values = {"brightness": float(calculate_brightness(*(mean_of(band) for band in bands)))}
    for percent in PERCENTILES:
        place = (ordered.size - 1) * (percent / 100)
        lower = math.floor(place)
        # a root changes no order: it is taken only of the two pixels that a percentile lies between
        pair = np.sqrt(ordered[[lower, min(lower + 1, ordered.size - 1)]]) / 255
        share, apart = place - lower, pair[1] - pair[0]
        # from the nearer of the two, as numpy does
        value = pair[0] + apart * share if share < 0.5 else pair[1] - apart * (1 - share)
        values[f"brightness_perc_{percent}"] = float(value)
    return values


def mean_of(values: np.ndarray) -> float:
    """Return the mean of whole numbers, exact before it is rounded."""
    return int(values.sum(dtype=np.int64)) / values.size


def spread_of(values: np.ndarray) -> float:
    """Return the standard deviation of whole numbers below 2**15, whose sums are exact."""
    total = float(values.sum(dtype=np.int64))
    squares = float(np.square(values, dtype=np.int32).sum(dtype=np.int64))
    return math.sqrt((squares - total**2 / values.size) / values.size)


def sharpness_of(grey: Image.Image) -> float:
    """Return how strong a picture's edges are, beside its contrast; 1 if it is of one colour.

    It is the standard deviation of the edges by that of the picture: about 0.8 in photos. Fog and
    night have weak edges and little contrast, and are not taken for blurred. Below FAINT, what is
    left of the contrast are steps of one grey level, which look like edges.
    """
    levels = np.asarray(grey).astype(np.int16)
    contrast = spread_of(levels)
    if contrast < 1 or min(levels.shape) < 3:
        return 1.0
    return spread_of(edges_of(levels)) / max(contrast, FAINT)


def edges_of(levels: np.ndarray) -> np.ndarray:
    """Return the edges that Pillow's FIND_EDGES finds, (h - 2, w - 2): without the border.

    levels: 0 to 255, int16 (h, w). An edge is how much lighter a pixel is than its eight
    neighbours together, 0 to 255.
    """
    rows = levels[:-2] + levels[1:-1] + levels[2:]
    nine = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return np.clip(9 * levels[1:-1, 1:-1] - nine, 0, 255)


def is_grey(bands: list[np.ndarray]) -> bool:
    """Return whether a picture has no colour, whatever its mode says; bands: uint8 (h, w)."""
    red, green, blue = (band.astype(np.int16) for band in bands)
    return all(mean_of(np.abs(apart)) < GREY for apart in (red - green, green - blue))


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
