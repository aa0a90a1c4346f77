"""Where the arithmetic runs, that it repeats exactly, and how several processes share it."""

import ctypes
import os
import sys
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from pydantic import ConfigDict, Field
from torch import Tensor

from pawprint.compute.settings import EngineParams
from pawprint.params import StageError

# Pictures that a device computes at a time. On a CPU more are no faster and take more memory.
AT_A_TIME = {"cpu": 16}


class ComputeParams(EngineParams):
    """The section `compute` of params.yaml, read by every stage that uses torch."""

    model_config = ConfigDict(extra="forbid")

    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: int = Field(ge=0)


def start(compute: ComputeParams, seed: int) -> torch.device:
    """Choose the device, seed every generator and switch on torch's deterministic algorithms.

    Under `torchrun` each process takes the GPU of its own number, if there are any, and joins the
    others; Ray Train has done both. Raises StageError if `compute.device` is a GPU of a kind that
    torch does not see.
    Source: https://pytorch.org/docs/stable/notes/randomness.html
    """
    device = choose_device(compute.device)

    # the same bytes every time; on an Apple GPU torch warns if it cannot promise them
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # (`use_deterministic_algorithms` does the same, and imports torch's compiler to tell it)
    torch.set_deterministic_debug_mode("warn" if device.type == "mps" else "error")
    # no operation of ours reads memory it has not written; torch swaps this module for an object
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)

    # speed
    keep_memory()
    if compute.threads:
        torch.set_num_threads(compute.threads)

    # the other processes
    if dist.is_available() and dist.is_initialized():
        own = torch.cuda.current_device() if device.type == "cuda" else None
        return device if own is None else torch.device("cuda", own)
    if dist.is_available() and dist.is_torchelastic_launched():
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def choose_device(wanted: str) -> torch.device:
    """Return the device of `compute.device`; auto: an NVIDIA GPU, else an Apple one, else the CPU.

    Raises StageError if torch does not see a GPU of the kind that is wanted.
    """
    seen = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not seen.get(wanted, True):
        raise StageError(
            f"compute.device is '{wanted}', but torch sees no GPU of this kind; it should be auto "
            "or cpu here"
        )
    if wanted == "auto":
        wanted = next((kind for kind in ("cuda", "mps") if seen[kind]), "cpu")
    return torch.device(wanted)


def stop() -> None:
    """Leave the other processes, if there are any."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def processes() -> tuple[int, int]:
    """Return this process's number, from 0, and how many there are.

    (0, 1) unless `torchrun` started several.
    """
    joined = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if joined else (0, 1)


def gather_rows(part: Tensor, total: int, device: torch.device) -> Tensor:
    """Return all rows in order, (total, ...), on the CPU.

    part: every n-th row of them from this process's number on, n being the number of processes.
    """
    rank, world = processes()
    if world == 1:
        return part
    whole = torch.zeros((total, *part.shape[1:]), dtype=part.dtype, device=device)
    whole[rank::world] = part.to(device)
    dist.all_reduce(whole)
    return whole.cpu()


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which a forward pass runs in `train.precision`: fp32, bf16 or fp16.

    Weights and their updates stay in fp32. The lower two are meant for GPUs: on a CPU with
    AVX512-BF16 a step of the default architecture took 1.35 times as long in bf16 as in fp32, and
    15 times as long in fp16.
    Source: Micikevicius et al., "Mixed precision training", arXiv:1710.03740.
    """
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def keep_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the kernel after every layer.

    A training step on a CPU frees and takes the same large blocks again and again. The kernel
    clears them each time, which was measured to cost 40 % of a step. Without glibc nothing changes.
    Source: mallopt(3).
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            m_trim_threshold, m_mmap_max = -1, -4
            mallopt(m_mmap_max, 0)
            mallopt(m_trim_threshold, 2**31 - 1)
