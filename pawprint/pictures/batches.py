"""Pictures as uint8, decoded once, for training and for what asks a model.

Training augments whole batches of them, everything else reads them as they are. Up to `RESIDENT`
bytes they are one tensor in memory. Above that they are in a file that is read batch by batch, so
memory does not grow with the number of pictures. Both give the same batches.
"""

import copy
import errno
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import overload

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pawprint.compute.cores import cores
from pawprint.params import StageError
from pawprint.pictures.opening import AS_STORED, Preparation, Unusable, open_picture
from pawprint.pictures.square import to_square

# How much larger than the input training pictures are, so that random views can be cut from them.
PRESIZE = 8 / 7
# Bytes of pictures of one kind (to train on, to validate on) that are kept in memory.
RESIDENT = 2**29


class OnDisk:
    """Pictures, uint8 (N, S, S, 3), in a file: indexed, split and moved as a tensor of them.

    The file has no name and is gone with the process, however that ends. It is read and written at
    offsets. It is not mapped, because pages of a mapping count as the process's memory as long as
    there is any to spare.
    """

    def __init__(self, count: int, size: int) -> None:
        self.size, self.stride = size, size * size * 3
        self.rows = range(count)
        self.device = torch.device("cpu")
        # in this folder, because /tmp may be memory; open for as long as this object lives
        self.file = tempfile.TemporaryFile(dir=".")  # noqa: SIM115

    def __len__(self) -> int:
        return len(self.rows)

    def __setitem__(self, i: int, picture: np.ndarray) -> None:
        offset = self.rows[i] * self.stride
        if os.pwrite(self.file.fileno(), picture.tobytes(), offset) < self.stride:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @overload
    def __getitem__(self, index: Tensor) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> "OnDisk": ...

    def __getitem__(self, index: "Tensor | slice") -> "Tensor | OnDisk":
        """Return the pictures at an index, int64 (n,), as a tensor on the device.

        Those of a slice are returned as they are, in the file.
        """
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
        """Return batches of `n` as Tensor.split does, each read when its turn comes."""
        return Batches(self, n)

    def to(self, device: torch.device) -> "Pictures":
        """Return a tensor on a GPU with twice the room; else pictures whose batches go there."""
        moved = self[:]
        moved.device = device
        needed = len(self) * self.stride
        if device.type == "cuda" and 2 * needed < torch.cuda.mem_get_info(device)[0]:
            return torch.cat(list(moved.split(1024)))
        return moved


class Batches:
    """Consecutive batches of `n` pictures that are read one at a time."""

    def __init__(self, pictures: OnDisk, n: int) -> None:
        self.pictures, self.n = pictures, n

    def __len__(self) -> int:
        return math.ceil(len(self.pictures) / self.n)

    def __iter__(self) -> Iterator[Tensor]:
        for chosen in torch.arange(len(self.pictures)).split(self.n):
            yield self.pictures[chosen]


Pictures = Tensor | OnDisk


def take(pictures: Pictures, index: Tensor) -> Tensor:
    """Return the pictures at an index, uint8 (n, S, S, 3), on their device; index: int64 (n,)."""
    # of a tensor, in a sixth of the time that pictures[index] takes
    return pictures.index_select(0, index) if isinstance(pictures, Tensor) else pictures[index]


def load_pictures(
    paths: Sequence[str],
    size: int,
    resize: str,
    interpolation: str,
    how: Preparation = AS_STORED,
) -> Pictures:
    """Decode pictures, uint8 (N, size, size, 3), in the order of `paths`, on all cores.

    how: as in `load_picture`.

    Raises StageError that names a picture which is missing or broken.
    """
    count = len(paths)
    resident = count * size * size * 3 <= RESIDENT
    shape = (count, size, size, 3)
    pictures = np.empty(shape, dtype=np.uint8) if resident else OnDisk(count, size)

    def load(i: int) -> None:
        pictures[i] = load_picture(paths[i], size, resize, interpolation, how)

    with ThreadPoolExecutor(cores()) as pool:
        list(tqdm(pool.map(load, range(count)), "load", count, unit="picture", leave=False))
    return torch.from_numpy(pictures) if isinstance(pictures, np.ndarray) else pictures


def load_picture(
    path: str, size: int, resize: str, interpolation: str, how: Preparation = AS_STORED
) -> np.ndarray:
    """Decode one picture and make it square, uint8 (size, size, 3).

    how: how it is prepared before that; pictures under data/images are prepared already.

    Raises StageError that names a picture which is missing or broken.
    """
    try:
        image = open_picture(path, how)
    except Unusable as why:
        raise StageError(
            f"{path} cannot be read ({why.detail}); `dvc repro verify` makes it again"
        ) from None
    return np.asarray(to_square(image, size, resize, interpolation))
