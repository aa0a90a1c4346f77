"""What the page shows of a picture: a thumbnail, and a large view."""

import io
from functools import lru_cache
from pathlib import Path

from pawprint.commands.review.catalogue import Version
from pawprint.commands.web import RequestRefused
from pawprint.pictures.opening import Preparation, Unusable, open_picture

THUMBNAIL = 320  # pixels on the longer side: sharp at the page's 160 on a dense screen
FULL = 1600  # of the picture that is looked at closer


def make_jpeg(path: Path, size: int) -> bytes:
    """Return a picture as a JPEG, at most `size` pixels on the longer side.

    Raises RequestRefused (404) if the file is missing or cannot be decoded.
    """
    try:
        image = open_picture(path, Preparation(max_size=size))
    except Unusable as why:
        raise RequestRefused(
            404, f"{path} cannot be read: {why.detail}; `dvc repro verify` makes it again"
        ) from None
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


@lru_cache(maxsize=2048)  # about 40 MB
def cached_thumbnail(path: Path, version: Version) -> bytes:
    """Return a picture's thumbnail as a JPEG; made again only when its file has changed."""
    return make_jpeg(path, THUMBNAIL)
