"""Names of labels and files: what may become a folder, and how odd names are written down."""

import json
import re
import unicodedata
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import StringConstraints

from pawprint.params import StageError
from pawprint.params import listed as listed

MAX_NAME = 255  # bytes of a file's or folder's name, on most file systems
MAX_PATH = 4000  # bytes of a whole path; Linux takes 4096
CONTROL = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories: control, surrogate, line separators
# Pictures of formats that are not read. They must not be taken for files that need no label.
OTHER_PICTURES = re.compile(
    r"\.(ai|arw|cr[23]|dng|eps|exr|hdr|jx[lr]|nef|orf|psd|raf|raw|rw2|svgz?|xcf)"
)
# Half of a phone's live photo, beside its still picture: IMG_1.HEIC and IMG_1.MOV.
VIDEOS = re.compile(r"\.(3g[2p]|avi|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|webm|wmv)")
A_VIDEO = "a video, not a picture"
# What lies beside pictures, and makes no class if a folder holds nothing else.
DOCUMENTS = re.compile(
    r"\.(csv|docx?|h5|html?|ipynb|jsonl?|log|mat|md|np[yz]|parquet|pdf|pkl|py|toml|tsv|txt|xlsx?"
    r"|xml|ya?ml)"
)

# A hash as a yaml names it, or "": capitals, as Windows writes them, become small letters.
Md5 = Annotated[str, StringConstraints(pattern="^([0-9a-fA-F]{32})?$", to_lower=True)]
Sha256 = Annotated[str, StringConstraints(pattern="^([0-9a-fA-F]{64})?$", to_lower=True)]


def check_label(label: str, where: str = "") -> None:
    """Raise StageError if a label cannot be used as a folder name. where: begins the message."""
    odd = set(label) & set("/\\") or any(unicodedata.category(c) in CONTROL for c in label)
    if (
        odd
        or not label.strip()
        or label.startswith(".")
        or len(label) > 100
        or len(label.encode("utf-8", "surrogatepass")) > MAX_NAME
    ):
        raise StageError(
            f"{where}the label {label[:120]!r} cannot name a folder; use up to 100 characters, "
            "no / or \\, no control characters, and no dot at the beginning"
        )


def check_path_text(text: str) -> str:
    """Return `text` if it can be a path. Raises ValueError, for pydantic."""
    if not text.strip():
        raise ValueError("should name a file or a folder")
    path = text.encode("utf-8", "surrogatepass")
    if b"\0" in path or len(path) > MAX_PATH or max(map(len, path.split(b"/"))) > MAX_NAME:
        raise ValueError(f"should be a path, of names with at most {MAX_NAME} bytes")
    return text


def printable(name: str) -> str:
    r"""Return the name of a file as text for a table: a byte that is not UTF-8 becomes `\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def yaml_word(text: str) -> str:
    """Return a word as a YAML file takes it: `01` in quotes, or it would be the number 1."""
    plain = re.fullmatch(r"[A-Za-z_][\w-]*", text) and text.lower() not in ("true", "false", "null")
    return text if plain else json.dumps(text, ensure_ascii=False)


def is_hidden(name: str) -> bool:
    """Return whether a path is hidden: a part of it begins with a dot, or is macOS's __MACOSX.

    name: with slashes, relative to the source.
    """
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def is_other_picture(name: str) -> bool:
    """Return whether a file's name is that of a picture in a format that is not read."""
    return bool(OTHER_PICTURES.fullmatch(PurePosixPath(name).suffix.lower()))


def is_video_name(name: str) -> bool:
    """Return whether a file's name is that of a video."""
    return bool(VIDEOS.fullmatch(PurePosixPath(name).suffix.lower()))


def is_document(name: str) -> bool:
    """Return whether a file's name is that of a text, a table or the like."""
    return bool(DOCUMENTS.fullmatch(PurePosixPath(name).suffix.lower()))
