"""Whose pictures these are: the licence, the author and the page of a picture, if a source says so.

A licence is written in many ways. `normal_licence` gives one, that of SPDX in small letters, which
is also the Hub's: `cc-by-4.0`, `cc0-1.0`, `mit`. Nothing is guessed: a licence that is not known is
kept as it is called, in small letters, and one that is not stated is "".
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from pawprint.sources import Credit, Found

# Names of columns without spaces and signs, the likeliest first.
NAMES = {
    "licence": (
        *("license", "licence", "licensename", "licencename", "licenseurl", "licenceurl"),
        *("rights", "usageterms", "licenseshortname"),
    ),
    "author": (
        *("author", "authorname", "creator", "photographer", "artist", "ownername", "owner"),
        *("attribution", "credit", "credits"),
    ),
    "page": (
        *("page", "pageurl", "sourcepage", "landingpage", "landingurl", "foreignlandingurl"),
        *("originallandingurl", "descriptionurl", "webpage"),
    ),
}
WITHHELD = "withheld"  # the status of a picture that `gather.licences` leaves out
NOT_STATED = "none stated"
LONGEST = 300  # characters of an author or a page

NOTHING = re.compile(
    r"unknown|none|null|nan|not[ -](stated|specified|known)|unspecified|n/?a|[-?]+"
)
CC_ADDRESS = re.compile(
    r"creativecommons\.org/"
    r"(?:licenses/([a-z-]+)/(\d\.\d)(?:/([a-z]{2})\b)?|publicdomain/(zero|mark))"
)
CC_WORDS = {
    "attribution": "by",
    "noncommercial": "nc",
    "sharealike": "sa",
    "noderivatives": "nd",
    "noderivs": "nd",
}
KNOWN_ADDRESSES = {
    "opensource.org/licenses/": "",
    "opensource.org/license/": "",
    "spdx.org/licenses/": "",
    "apache.org/licenses/license-2.0": "apache-2.0",
    "unsplash.com": "unsplash",
    "pexels.com": "pexels",
    "pixabay.com": "pixabay",
}
ZERO = r"(cc|creativecommons)(0|zero)(1\.0)?(universal)?(cc01\.0)?(publicdomaindedication)?"
PARTS = ("by", "nc", "nd", "sa")
CC_FILLING = {"cc", "creative", "commons", "international", "unported", "generic", "public"}
FILLING = {"the", "license", "licence", "licensed", "under", "version", "v", "a", "an", "of"}
VERSION = re.compile(r"-\d+(\.\d+)*(-[a-z]{2})?$")


def normal_licence(text: object) -> str:
    """Return the one way in which a licence is written here; "" if none is stated.

    Understood are names, SPDX identifiers and addresses, in any case: `CC BY-SA 4.0`,
    `https://creativecommons.org/licenses/by-sa/4.0/deed.en` and `Attribution-ShareAlike 4.0
    International` are all cc-by-sa-4.0.
    """
    words = " ".join(unicodedata.normalize("NFKC", str(text or "")).lower().split())
    if not words or NOTHING.fullmatch(words):
        return ""
    if match := CC_ADDRESS.search(words):
        if match[4]:
            return "cc0-1.0" if match[4] == "zero" else "public-domain"
        return "-".join(part for part in ("cc", match[1], match[2], match[3]) if part)
    for address, name in KNOWN_ADDRESSES.items():
        if address in words:
            words = name or words.partition(address)[2].removesuffix("/").removesuffix(".html")
    pieces = [
        piece
        for piece in re.findall(r"\d+(?:\.\d+)*|[^\W\d_]+", re.sub(r"https?://(www\.)?", "", words))
        if piece not in FILLING
    ]
    return _name_of(pieces) or "-".join(pieces)[:80]


def _name_of(pieces: list[str]) -> str:
    """Return the name of a Creative Commons licence or the public domain from its words; or ""."""
    together = "".join(pieces)
    if re.fullmatch(ZERO, together):
        return "cc0-1.0"
    if re.fullmatch(r"(cc)?pdm?(1\.0)?|publicdomain(mark)?(1\.0)?", together):
        return "public-domain"
    text = " ".join(pieces).replace("non commercial", "noncommercial").replace("ccby", "cc by")
    text = text.replace("share alike", "sharealike").replace("no deriv", "noderiv")
    words = [CC_WORDS.get(word, word) for word in text.split()]
    numbers = [word for word in words if word[0].isdigit()]
    country = words.pop() if numbers and re.fullmatch("[a-z]{2}", words[-1]) else ""
    if "by" not in words or len(numbers) > 1 or not set(words) <= {*CC_FILLING, *PARTS, *numbers}:
        return ""
    version = numbers[0] if numbers and "." in numbers[0] else "".join(f"{n}.0" for n in numbers)
    parts = ["cc", *(part for part in PARTS if part in words), version, country]
    return "-".join(part for part in parts if part)


def is_allowed(licence: str, names: Sequence[str]) -> bool:
    """Return whether a licence is one of some names, all written as `normal_licence` does.

    A name without a version stands for all versions: cc-by for cc-by-4.0 and cc-by-2.0, but not for
    cc-by-sa-4.0.
    """
    return licence in names or (bool(licence) and VERSION.sub("", licence) in names)


def why_withheld(licence: str, names: Sequence[str]) -> str:
    """Return why `gather.licences` leaves a picture out; "" if it does not. []: all are kept."""
    if not names or is_allowed(licence, names):
        return ""
    if not licence:
        return "no licence is stated"
    return f"its licence, {licence}, is not in gather.licences"


def withhold(items: Iterable[Found], names: Sequence[str]) -> Iterator[Found]:
    """Yield what a source finds; what `gather.licences` leaves out is not read or downloaded."""
    for item in items:
        reason = "" if item.missing else why_withheld(item.credit.licence, names)
        yield replace(item, read=None, missing=reason, status=WITHHELD) if reason else item


# --- columns of tables ---


@dataclass(frozen=True)
class CreditColumns:
    """The columns of a table that hold licence, author and page; "" for one that it lacks."""

    licence: str = ""
    author: str = ""
    page: str = ""

    @property
    def names(self) -> list[str]:
        """The columns that are there."""
        return [name for name in (self.licence, self.author, self.page) if name]

    def read(self, cells: Mapping[str, Any]) -> Credit:
        """Return what a row's cells say; only texts and numbers say something."""
        values = [
            cells.get(name) if name else "" for name in (self.licence, self.author, self.page)
        ]
        return credit_of(*(each if isinstance(each, (str, int, float)) else "" for each in values))


def find_credit_columns(columns: Iterable[str], but: Iterable[str] = ()) -> CreditColumns:
    """Return which columns of a table hold licence, author and page, by their names.

    but: columns that are something else.
    """
    taken = set(but)
    squeezed = {re.sub(r"[\W_]+", "", name.lower()): name for name in columns if name not in taken}
    found = {
        field.name: next((squeezed[name] for name in NAMES[field.name] if name in squeezed), "")
        for field in fields(CreditColumns)
    }
    return CreditColumns(**found)


def credit_of(licence: object = "", author: object = "", page: object = "") -> Credit:
    """Return a credit whose texts are one line each, the licence in its normal form."""
    return Credit(normal_licence(licence), _line(author), _line(page))


def _line(value: object) -> str:
    """Return a cell's value as one printable line; "" for none."""
    text = "" if value is None or value != value else " ".join(str(value).split())
    return "".join(letter for letter in text if letter.isprintable())[:LONGEST]
