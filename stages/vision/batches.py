"""Pictures as one uint8 array, decoded once: training augments whole batches of it, evaluation reads it as it is."""

import math
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from pawprint.shipped.predict import to_square
from stages.params import StageError

IN_MEMORY = 1 << 30  # bytes of pictures; more lie in a file


def load_pictures(paths: Sequence[str], size: int, resize: str, interpolation: str) -> Tensor:
    """Decode pictures into one uint8 tensor (N, size, size, 3), in the order of `paths`, on all cores.

    Raises StageError that names a picture which is missing or broken.
    """
    pictures = room_for((len(paths), size, size, 3))

    def load(i: int) -> None:
        pictures[i] = load_picture(paths[i], size, resize, interpolation)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(tqdm(pool.map(load, range(len(paths))), "load", len(paths), unit="picture", leave=False))
    return torch.from_numpy(pictures)


def room_for(shape: tuple[int, ...]) -> np.ndarray:
    """An uint8 array to fill. Above IN_MEMORY it is mapped to a file without a name in the working folder.

    The kernel keeps of it what fits into memory; the file is gone when the stage ends, however it ends.
    """
    size = math.prod(shape)
    if size <= IN_MEMORY:
        return np.empty(shape, dtype=np.uint8)
    with tempfile.TemporaryFile(dir=".") as file:
        # A disk without room is an error here, and not a crash in the middle of decoding.
        getattr(os, "posix_fallocate", lambda descriptor, _, end: os.ftruncate(descriptor, end))(file.fileno(), 0, size)
        return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)


def load_picture(path: str, size: int, resize: str, interpolation: str) -> np.ndarray:
    """Decode one picture and make it square, uint8 (size, size, 3)."""
    try:
        with Image.open(path) as image:
            return np.asarray(to_square(image.convert("RGB"), size, resize, interpolation))
    except (UnidentifiedImageError, OSError) as error:
        raise StageError(f"{path} cannot be read ({error}); `dvc repro verify` makes it anew") from None
