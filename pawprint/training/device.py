"""Where the arithmetic runs, that it runs the same way twice, and how several processes share it."""

import ctypes
import os
import sys
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor

from pawprint.params import Params, StageError

AT_A_TIME = {
    "cpu": 16
}  # pictures that a device computes at a time; more are no faster on a CPU, and take more memory


class ComputeParams(Params):
    """The section `compute` of params.yaml, read by every stage that uses torch."""

    device: Literal["auto", "cpu", "cuda"]
    threads: int = Field(ge=0)


def start(compute: ComputeParams, seed: int) -> torch.device:
    """Choose the device, seed every generator and switch on torch's deterministic algorithms.

    Under `torchrun` each process takes the GPU of its own number, if any, and joins the others.
    Raises StageError where `compute.device` is cuda and there is none.
    Source: https://pytorch.org/docs/stable/notes/randomness.html
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise StageError(
            "compute.device is 'cuda', but torch sees no GPU; it should be auto or cpu here"
        )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = (
        False  # no operation of ours reads memory it has not written
    )
    torch.backends.cudnn.benchmark = False
    keep_memory()
    if compute.threads:
        torch.set_num_threads(compute.threads)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    wanted = "cuda" if compute.device == "auto" and torch.cuda.is_available() else compute.device
    device = torch.device("cpu" if wanted == "auto" else wanted)
    if dist.is_available() and dist.is_torchelastic_launched():
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def stop() -> None:
    """Leave the other processes, where there are any."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def processes() -> tuple[int, int]:
    """This process's number, from 0, and how many there are: (0, 1) unless `torchrun` started several."""
    joined = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)


def gather_rows(part: Tensor, total: int, device: torch.device) -> Tensor:
    """All `total` rows in order, on the CPU, where this process holds every n-th row from its own number on."""
    rank, world = processes()
    if world == 1:
        return part
    whole = torch.zeros((total, *part.shape[1:]), dtype=part.dtype, device=device)
    whole[rank::world] = part.to(device)
    dist.all_reduce(whole)
    return whole.cpu()


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
