"""Where the arithmetic runs, and that it runs the same way twice."""

import ctypes
import os
import sys
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from stages.params import Params, StageError


class ComputeParams(Params):
    """The section `compute` of params.yaml, read by every stage that uses torch."""

    device: Literal["auto", "cpu", "cuda"]
    threads: int = Field(ge=0)


def start(compute: ComputeParams, seed: int) -> torch.device:
    """Choose the device, seed every generator and switch on torch's deterministic algorithms.

    Raises StageError where `compute.device` is cuda and there is none.
    Source: https://pytorch.org/docs/stable/notes/randomness.html
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise StageError("compute.device is 'cuda', but torch sees no GPU; it should be auto or cpu here")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # no operation of ours reads memory it has not written
    torch.backends.cudnn.benchmark = False
    keep_memory()
    if compute.threads:
        torch.set_num_threads(compute.threads)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    wanted = "cuda" if compute.device == "auto" and torch.cuda.is_available() else compute.device
    return torch.device("cpu" if wanted == "auto" else wanted)


def keep_memory() -> None:
    """Let glibc keep freed memory instead of handing it back to the kernel after every layer.

    A training step on a CPU frees and takes the same large blocks again and again; clearing them anew each time was
    measured to cost 40 % of a step. Elsewhere than on glibc nothing is changed. Source: mallopt(3).
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            m_trim_threshold, m_mmap_max = -1, -4
            mallopt(m_mmap_max, 0)
            mallopt(m_trim_threshold, 2**31 - 1)
