"""Several processes of one training on this machine, started as torchrun starts them.

Source: https://docs.pytorch.org/docs/stable/elastic/run.html
"""

import logging
import os
import sys
import tempfile
import uuid
from pathlib import Path

import torch
import torch.distributed as dist

from pawprint.compute.cores import cores
from pawprint.compute.listening import listen_on_one_address
from pawprint.training.device import ComputeParams


def started_by_others() -> bool:
    """Return whether this is one of several processes, of torchrun or of Ray Train."""
    return dist.is_available() and (dist.is_torchelastic_launched() or dist.is_initialized())


def processes_wanted(compute: ComputeParams, most: int) -> int:
    """Return how many processes should share a training: one per GPU, or compute.workers.

    most: that there is work for. A process that was started with others wants no more.
    """
    if started_by_others() or not dist.is_available():
        return 1
    gpus = torch.cuda.device_count() if compute.device in ("auto", "cuda") else 0
    wanted = max(1, gpus) if compute.workers == "auto" else compute.workers
    return min(wanted, gpus or wanted, most)


def launch(module: str, arguments: list[str], count: int) -> None:
    """Run `python -m module arguments` in `count` processes, joined by torch.distributed.

    What the first of them prints is seen. If one fails, so does this process, with its exit code 1;
    the first has then said why, or else the last line of the failed one is printed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // count)))
    listen_on_one_address()
    with tempfile.TemporaryDirectory(prefix="pawprint-") as logs:
        others = dict.fromkeys(range(1, count), Std.ALL)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            monitor_interval=0.1,
            local_addr="127.0.0.1",
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=others),
        )
        try:
            elastic_launch(config, sys.executable)("-m", module, *arguments)
        except ChildFailedError as error:
            rank, _ = error.get_first_failure()
            lines = [
                line
                for path in sorted(Path(logs).rglob(f"{rank}/stderr.log"))
                for line in path.read_text(errors="replace").splitlines()
                if line.strip()
            ]
            sys.exit(lines[-1] if rank and lines else 1)
