"""Pictures: the only way a file becomes pixels. Formats, decoding, squares, hashes, batches."""

from pathlib import PurePath


def picture_name(path: str) -> str:
    """Return a picture's name, whatever its label: the hash that its file is named after."""
    return PurePath(path).stem
