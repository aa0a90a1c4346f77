"""Labels that go with something other than the subject: brightness, size, colour or the source.

A model may learn such a trait instead of the subject, if it is easier to see: a class of night
shots becomes "dark". cleanlab's Datalab looks for the same under the name spurious correlations.
It is not used here. It needs the packages datasets and pyarrow, 170 MB; it gives one figure for all
classes, in which one class of many does not show; and it compares with the number of the most
frequent class where its share is meant (`SpuriousCorrelations._get_baseline` in cleanlab 2.9).

Here each class is compared with all other pictures by the simplest rule: one range of one trait.
The strength of the best such rule is the share of the class in the range less the share of the
others (Kuiper, "Tests concerning random points on a circle", 1960, without the ranges that go
round). It is 1 less Datalab's score: the share that the rule gains of the way from guessing to
being always right, if the class and the others count the same.
"""

from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

STRONG = 0.7  # Datalab's threshold: a score of 0.3
CLEAR = 0.4
SMALLEST = 20  # pictures in a class and outside it; fewer may reach STRONG by chance
SHARE = 0.1  # of a class, which a host must hold to be one of its sources
# trait -> its column in data/properties.csv, and what is said of the pictures in a range of it
RANGES = {
    "brightness": ("brightness", "have a brightness of {:.2f} to {:.2f} (1 is white)"),
    "sharpness": ("sharpness", "have a sharpness of {:.2f} to {:.2f} (0 is blurred)"),
    "information": ("low_information_score", "have {:.2f} to {:.2f} of detail (0 is one colour)"),
    "size": ("size", "are {:.0f} to {:.0f} pixels a side"),
    "aspect ratio": ("aspect_ratio", "have sides in a ratio of {:.2f} to {:.2f} (1 is a square)"),
    "colour": ("grey", "{:.0f} {:.0f}"),
}
COLOUR = {"1 1": "have no colour", "0 0": "have colours"}


class Correlation(NamedTuple):
    """Something that pictures of a class have in common.

    inside, outside: share of the class, and of all other pictures, for which `what` is true.
    """

    trait: str
    label: str
    inside: float
    outside: float
    what: str

    @property
    def strength(self) -> float:
        """How well the trait tells the class from the others, 0 (not at all) to 1."""
        return self.inside - self.outside

    @property
    def word(self) -> str:
        """The strength in a word."""
        return (
            "strong" if self.strength >= STRONG else "clear" if self.strength >= CLEAR else "weak"
        )

    def sentence(self) -> str:
        """Return what was found, as a sentence without its full stop."""
        own, others = (f"{100 * share:.0f} %" for share in (self.inside, self.outside))
        return f"{own} of {self.label} {self.what}, and {others} of the other pictures"


def find_correlations(table: pd.DataFrame) -> list[Correlation]:
    """Return the best rule of each trait for each class, the strongest first.

    table: columns label, url and those of RANGES, one row per picture. Classes of fewer than
    SMALLEST pictures are left out. Of two classes only the stronger is given per trait: what tells
    one from the other tells the other from the one.
    """
    sizes = table["label"].value_counts()
    classes = sorted(sizes.index[(sizes >= SMALLEST) & (len(table) - sizes >= SMALLEST)])
    hosts = table["url"].map(host_of)
    rows = table.groupby("label").indices
    found = []
    for trait, (column, text) in RANGES.items():
        values = table[column].to_numpy()
        ordered = np.sort(values)
        for name in classes:
            own = np.sort(values[rows[name]])
            found += best_range(own, ordered, trait, name, text)
    host_counts = hosts.value_counts()
    for name in classes:
        found += common_sources(host_counts, hosts.iloc[rows[name]], name)
    found.sort(key=lambda each: (-each.strength, each.trait, each.label))
    return strongest(found) if len(sizes) == 2 else found


def best_range(
    own: np.ndarray, values: np.ndarray, trait: str, label: str, text: str
) -> list[Correlation]:
    """Return the range of values that holds more of a class and less of the others than any.

    own: (n,) of the class, sorted; values: (N,) of all pictures, sorted; text: says what a range
    means. Returns nothing if no range holds more of the class than of the others.
    """
    count, others = len(own), len(values) - len(own)
    # how many of the class, and of the others, are below each value, and how many not above it
    own_below, own_upto = (np.searchsorted(own, own, side) for side in ("left", "right"))
    below = np.searchsorted(values, own, "left") - own_below
    upto = np.searchsorted(values, own, "right") - own_upto
    before = own_below / count - below / others
    gain = own_upto / count - upto / others - np.minimum.accumulate(before)
    end = int(gain.argmax())
    begin = int(before[: end + 1].argmin())
    inside = float((own_upto[end] - own_below[begin]) / count)
    outside = float((upto[end] - below[begin]) / others)
    if inside <= outside:
        return []
    what = text.format(own[begin], own[end])
    return [Correlation(trait, label, inside, outside, COLOUR.get(what, what))]


def common_sources(counts: pd.Series, own: pd.Series, label: str) -> list[Correlation]:
    """Return the hosts that a class comes from more than other pictures, as one correlation.

    counts: pictures by host, "" if they do not come from the web; own: the hosts of the class, one
    per picture.
    """
    own_counts = own.value_counts()
    shares = own_counts / len(own)
    others = (counts[own_counts.index] - own_counts) / (counts.sum() - len(own))
    chosen = sorted(shares.index[(shares >= SHARE) & (shares > others) & (shares.index != "")])
    if not chosen:
        return []
    what = f"come from {', '.join(chosen)}"
    inside, outside = float(shares[chosen].sum()), float(others[chosen].sum())
    return [Correlation("source", label, inside, outside, what)]


def host_of(url: str) -> str:
    """Return the host of a web address without its `www.`; "" for anything else."""
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.") if "://" in url else ""
    except ValueError:  # such as a bracket that opens no IPv6 address
        return ""


def strongest(found: list[Correlation]) -> list[Correlation]:
    """Return the first correlation of each trait, in the order given."""
    first: dict[str, Correlation] = {}
    for each in found:
        first.setdefault(each.trait, each)
    return list(first.values())
