"""A training that several workers of a Ray cluster share, under Ray Train's TorchTrainer.

Ray Train starts the workers and joins them in a process group of torch. Each gets the files that
the training reads, through the object store, into a temporary folder, and runs the same function as
torchrun's processes do. What worker 0 writes comes back to the driver: its checkpoint after every
epoch, and the results at the end. If a worker is lost, the others are started again, as many as the
cluster still has places for, and go on from the checkpoint if their number is the same.
Source: https://docs.ray.io/en/latest/train/user-guides/fault-tolerance.html
"""

import contextlib
import io
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pawprint.compute.cluster import (
    BATCH_BYTES,
    RETRIES,
    Files,
    RayEngine,
    Versions,
    address_here,
    cloudpickle,
    pack,
    refuse_difference,
    temporary_home,
    versions_here,
    write,
)
from pawprint.compute.engine import bytes_of
from pawprint.compute.listening import listen_on_one_address
from pawprint.params import StageError

MOMENT = 0.5  # seconds between two looks for a new checkpoint
NOTICED = 30.0  # seconds in which Ray notices that a node is gone

Piece = list[tuple[str, int, bytes]]  # parts of files: path, offset, content


class Exchange:
    """An actor beside the driver: the files that workers fetch, and those that they send back."""

    def __init__(self, pieces: list[Any]) -> None:
        """pieces: references to Piece in the object store."""
        self.kept = pieces
        self.files: Files = {}
        self.said: list[str] = []

    def pieces(self) -> list[Any]:
        """Return the references to what a worker needs."""
        return self.kept

    def put(self, files: Files, said: str = "") -> None:
        """Take files from a worker, and a line for the user."""
        self.files.update(files)
        self.said += [said] if said else []

    def take(self) -> tuple[Files, list[str]]:
        """Return what has come since the last call."""
        found = self.files, self.said
        self.files, self.said = {}, []
        return found


@dataclass(frozen=True)
class Shape:
    """How many workers share a training, and what each has."""

    workers: int
    cpus: int
    gpus: float


def train_on_cluster(
    engine: RayEngine,
    work: Callable[[], None],
    reads: Sequence[str],
    checkpoint: str,
    writes: Sequence[str],
    most: int,
    on_gpu: bool,
) -> None:
    """Run `work` in a group of workers that torch.distributed joins; bring back what it writes.

    reads: the files that it opens; checkpoint: one that it writes again and again, and goes on
    from; writes: its results. All are relative to the working folder. most: workers.
    Raises StageError if it fails: what `work` says itself, or why the cluster could not do it.
    """
    engine.connect()
    import ray

    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "120")
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    _, content = pack((work,))
    pieces = [ray.put(piece) for piece in cut(reads)]
    reason = ""
    for _ in range(RETRIES):
        shape = shape_of(engine, most, on_gpu)
        nodes = nodes_of(engine, shape)
        exchange = start_exchange(pieces + [ray.put(piece) for piece in cut([checkpoint])])
        settings = {
            "exchange": exchange,
            "content": content,
            "expected": engine.expected,
            "checkpoint": checkpoint,
            "writes": list(writes),
        }
        print(f"train: {shape.workers} workers of the cluster at {engine.address}", file=sys.stderr)
        with following(exchange) as said:
            reason = fit(settings, shape)
        failed = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
        if failed:
            raise StageError(failed[0])
        if not reason:
            for line in said:
                print(line, file=sys.stderr)
            Path(checkpoint).unlink(missing_ok=True)
            return
        wait_for_news(engine, shape, nodes)
    raise StageError(
        f"the workers of the training were lost {RETRIES} times ({reason}); a rerun goes on from "
        "the last checkpoint"
    )


def nodes_of(engine: RayEngine, shape: Shape) -> set[str]:
    """Return the nodes on which a worker of this shape has a place."""
    return {node["NodeID"] for node in engine.places(shape.gpus)}


def wait_for_news(engine: RayEngine, shape: Shape, nodes: set[str]) -> None:
    """Wait until Ray knows that one of `nodes` is gone, if that was why a group failed."""
    until = time.monotonic() + NOTICED
    while time.monotonic() < until and nodes <= nodes_of(engine, shape):
        time.sleep(MOMENT)


def shape_of(engine: RayEngine, most: int, on_gpu: bool) -> Shape:
    """Return a worker per GPU or, without any, per node; or as many as compute.workers says.

    Raises StageError if the cluster has no place for one.
    """
    gpus = engine.gpus() if on_gpu else 0
    places = engine.places(gpus)
    if not places:
        raise StageError(
            f"the cluster at {engine.address} has no worker left to train on; add a node, then "
            "rerun: it goes on from the last checkpoint"
        )
    nodes = {node["NodeID"]: int(node["Resources"]["CPU"]) for node in places}
    auto = len(places) if gpus else len(nodes)
    count = auto if engine.params.workers == "auto" else engine.params.count(len(places))
    count = min(count, most)
    return Shape(count, 1 if gpus or count > len(nodes) else min(nodes.values()), gpus)


def start_exchange(pieces: list[Any]) -> Any:
    """Return an Exchange on the driver's node, which lives if others are lost."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Exchange).options(num_cpus=0, scheduling_strategy=here)
    return actor.remote(pieces)


def fit(settings: dict[str, Any], shape: Shape) -> str:
    """Run the group once; return why it failed, in one line, or ""."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    once: dict[str, Any] = {"max_failures": 0, "controller_failure_limit": 0}
    resources = {"CPU": shape.cpus, **({"GPU": shape.gpus} if shape.gpus else {})}
    with tempfile.TemporaryDirectory(prefix="pawprint-train-") as folder:
        trainer = TorchTrainer(
            take_part,
            train_loop_config=settings,
            torch_config=torch_config(),
            scaling_config=ScalingConfig(
                num_workers=shape.workers,
                use_gpu=bool(shape.gpus),
                resources_per_worker=resources,
            ),
            run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(**once)),
        )
        try:
            trainer.fit()
        except Exception as error:  # Ray Train raises kinds of its own, which change
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return lines[-1][:200] if lines else type(error).__name__
    return ""


def torch_config() -> Any:
    """Return Ray's way to join the workers, with a store that listens on one address."""
    from ray.train.torch import TorchConfig
    from ray.train.torch.config import _TorchBackend

    class Backend(_TorchBackend):
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(listen_on_one_address)
            super().on_start(worker_group, backend_config)

    class Config(TorchConfig):
        backend_cls = Backend

    return Config()


@contextlib.contextmanager
def following(exchange: Any) -> Iterator[list[str]]:
    """Write what comes from the workers as it comes; the list fills with what they say."""
    import ray

    from pawprint.tables import write_bytes

    said: list[str] = []
    done = threading.Event()

    def fetch() -> None:
        files, lines = ray.get(exchange.take.remote())
        for path, content in files.items():
            write_bytes(path, content)
        said.extend(lines)

    def follow() -> None:
        while not done.wait(MOMENT):
            fetch()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield said
    finally:
        done.set()
        thread.join()
        fetch()
        ray.kill(exchange)


def cut(paths: Iterable[str]) -> Iterator[Piece]:
    """Yield the contents of files in pieces of BATCH_BYTES; a missing file is left out."""
    piece: Piece = []
    total = 0
    for path in paths:
        if not Path(path).is_file():
            continue
        with open(path, "rb") as file:
            offset = 0
            while (content := file.read(BATCH_BYTES)) or not offset:
                piece.append((path, offset, content))
                offset, total = offset + len(content), total + len(content)
                if total >= BATCH_BYTES:
                    yield piece
                    piece, total = [], 0
                if not content:
                    break
    if piece:
        yield piece


def take_part(settings: dict[str, Any]) -> None:
    """Run the training in a worker of the group, in a folder with the files that it reads."""
    import ray
    import ray.train
    import torch
    from ray.train.torch import get_device

    expected: Versions = settings["expected"]
    refuse_difference(expected, versions_here(), address_here())
    exchange, first = settings["exchange"], ray.train.get_context().get_world_rank() == 0
    if torch.cuda.is_available() and get_device().type == "cuda":
        torch.cuda.set_device(get_device())
    with temporary_home():
        for reference in ray.get(exchange.pieces.remote()):
            for path, offset, content in ray.get(reference):
                if not offset:
                    write(path, b"")
                with open(path, "ab") as file:
                    file.write(content)
        (work,) = cloudpickle().loads(settings["content"])
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), sending(exchange, settings["checkpoint"], first):
                work()
        except StageError as error:
            ray.get(exchange.put.remote({}, f"error: {error}"))
            raise
        if first:
            ray.get(exchange.put.remote(bytes_of(settings["writes"])))
            lines = said.getvalue().replace("\r", "\n").splitlines()
            for line in dict.fromkeys(lines):  # Ray's own print says everything twice
                if line.startswith("train: "):
                    ray.get(exchange.put.remote({}, line))


@contextlib.contextmanager
def sending(exchange: Any, path: str, first: bool) -> Iterator[None]:
    """Send a file to the driver whenever it has changed; only the first worker does."""
    import ray

    done = threading.Event()

    def send() -> None:
        known = state_of(path)
        while not done.wait(MOMENT):
            if (now := state_of(path)) != known:
                ray.get(exchange.put.remote(bytes_of([path])))
                known = now

    thread = threading.Thread(target=send, daemon=True)
    if first:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if first:
            thread.join()


def state_of(path: str) -> tuple[int, int]:
    """Return what changes if a file is replaced; zeros if there is none."""
    try:
        about = os.stat(path)
    except FileNotFoundError:
        return 0, 0
    return about.st_ino, about.st_mtime_ns
