"""The training pictures that an exported model compares with, where they are at hand."""

import io
from pathlib import Path

from PIL import Image

from pawprint.exporting.shipped.predict import Classifier
from pawprint.pictures import picture_name
from pawprint.pictures.opening import Preparation, open_picture

SIDE = 144  # pixels a side of a thumbnail: pages show half as many, on a dense screen


def find_known(classifier: Classifier, export: Path) -> dict[str, Path]:
    """Return the files of the pictures that the model's answers name, by name.

    They are in data/images of the project that the exported folder is in; none if it is in no
    project, or the model does not explain itself.
    """
    wanted = set(classifier.known.get("pictures", []))
    images = export.resolve().parent / "data/images"
    if not wanted or not images.is_dir():
        return {}
    files = {picture_name(str(path)): path for path in images.glob("*/*") if path.is_file()}
    return {name: path for name, path in files.items() if name in wanted}


def thumbnail(path: Path) -> bytes:
    """Return a small square of a picture, as a JPEG. Raises Unusable."""
    how = Preparation(resize="crop", max_size=SIDE)
    buffer = io.BytesIO()
    open_picture(path, how).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(
        buffer, "JPEG", quality=80
    )
    return buffer.getvalue()
