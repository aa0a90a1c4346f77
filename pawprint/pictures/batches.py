"""Pictures as uint8, decoded once: training augments whole batches of them, evaluation reads them as they are.

Up to `RESIDENT` bytes they are one tensor in memory, above it a file that is read batch by batch, so that memory does
not grow with the number of pictures. Both give the same batches.
"""

import copy
import errno
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

from pawprint.compute import cores
from pawprint.params import StageError
from pawprint.pictures.square import to_square

PRESIZE = (
    8 / 7
)  # how much larger than the input pictures are kept for random views to be cut from them
RESIDENT = (
    2**29
)  # bytes of pictures of one kind (to train on, to validate on) that are kept in memory


class OnDisk:
    """Pictures, uint8 (N, S, S, 3), in a file: indexed, split and moved as the tensor of them would be.

    The file has no name and is gone with the process, however that ends. It is read and written at offsets rather than
    mapped: pages of a mapping count as the process's memory for as long as there is any to spare.
    """

    def __init__(self, count: int, size: int) -> None:
        self.size, self.stride = size, size * size * 3
        self.rows = range(count)
        self.device = torch.device("cpu")
        self.file = tempfile.TemporaryFile(dir=".")  # noqa: SIM115 (read as long as this lives); not in /tmp: memory

    def __len__(self) -> int:
        return len(self.rows)

    def __setitem__(self, i: int, picture: np.ndarray) -> None:
        if (
            os.pwrite(self.file.fileno(), picture.tobytes(), self.rows[i] * self.stride)
            < self.stride
        ):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getitem__(self, index: "Tensor | slice") -> "Tensor | OnDisk":
        """The pictures at an index, int64 (n,), as a tensor on the device; those of a slice stay in the file."""
        if isinstance(index, slice):
            part = copy.copy(self)
            part.rows = self.rows[index]
            return part
        shape = (len(index), self.size, self.size, 3)
        batch = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        for picture, i in zip(batch.numpy(), index.tolist(), strict=True):
            os.preadv(self.file.fileno(), [picture], self.rows[i] * self.stride)
        return batch.to(self.device, non_blocking=True)

    def split(self, n: int) -> "Batches":
        """As Tensor.split: batches of `n`, each read when its turn comes."""
        return Batches(self, n)

    def to(self, device: torch.device) -> "Tensor | OnDisk":
        """On a GPU that has twice the room, a tensor there; otherwise these pictures, of which batches go there."""
        moved = self[:]
        moved.device = device
        if (
            device.type == "cuda"
            and 2 * len(self) * self.stride < torch.cuda.mem_get_info(device)[0]
        ):
            return torch.cat(list(moved.split(1024)))
        return moved


class Batches(Sequence[Tensor]):
    """Consecutive batches of `n` pictures that are read one at a time."""

    def __init__(self, pictures: OnDisk, n: int) -> None:
        self.pictures, self.n = pictures, n

    def __len__(self) -> int:
        return math.ceil(len(self.pictures) / self.n)

    def __getitem__(self, i: int) -> Tensor:
        chosen = range(len(self.pictures))[i * self.n : (i + 1) * self.n]
        if not chosen:
            raise IndexError(i)
        return self.pictures[torch.tensor(chosen)]


Pictures = Tensor | OnDisk


def load_pictures(paths: Sequence[str], size: int, resize: str, interpolation: str) -> Pictures:
    """Decode pictures, uint8 (N, size, size, 3), in the order of `paths`, on all cores.

    Raises StageError that names a picture which is missing or broken.
    """
    resident = len(paths) * size * size * 3 <= RESIDENT
    pictures = (
        np.empty((len(paths), size, size, 3), dtype=np.uint8)
        if resident
        else OnDisk(len(paths), size)
    )

    def load(i: int) -> None:
        pictures[i] = load_picture(paths[i], size, resize, interpolation)

    with ThreadPoolExecutor(cores()) as pool:
        list(
            tqdm(pool.map(load, range(len(paths))), "load", len(paths), unit="picture", leave=False)
        )
    return torch.from_numpy(pictures) if isinstance(pictures, np.ndarray) else pictures


def load_picture(path: str, size: int, resize: str, interpolation: str) -> np.ndarray:
    """Decode one picture and make it square, uint8 (size, size, 3)."""
    try:
        with Image.open(path) as image:
            return np.asarray(to_square(image.convert("RGB"), size, resize, interpolation))
    except (UnidentifiedImageError, OSError) as error:
        raise StageError(
            f"{path} cannot be read ({error}); `dvc repro verify` makes it anew"
        ) from None
