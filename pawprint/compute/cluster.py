"""A Ray cluster: the same map as on this machine, on workers that share no disk with it.

Batches of items travel through Ray's object store, with the contents of the files that the function
reads. A worker puts them into a temporary folder under the names that they have here, runs the
function there, and returns the results with the files that it wrote. Only the process that called
`map`, the driver, writes them, in order. So a function needs to know nothing of the cluster.

- Few batches are under way at a time, two for each worker, so that the driver's memory does not
  grow with the pictures.
- Work that a lost node or process had is done again elsewhere (Ray's retries). If an item ends its
  process again and again, it is found by trying the items of its batch one by one.
- A worker whose Python, pawprint, torch, timm, Pillow or numpy is another is refused by name.

Ray has no passwords by default: whoever reaches its ports runs code. See docs/cluster.md.
Source: https://docs.ray.io/en/latest/ray-core/fault-tolerance.html
"""

import contextlib
import copyreg
import functools
import hashlib
import importlib
import importlib.util
import logging
import os
import socket
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pawprint.compute.versions as versions
from pawprint.compute.engine import Engine, I, R, bytes_of, no_files
from pawprint.compute.settings import EngineParams
from pawprint.params import StageError

BATCH_BYTES = 1 << 24  # of files that travel together, unless one alone is larger
LOOK = 20.0  # seconds without a result, after which the cluster is asked what it still has
REACH = 5.0  # seconds for a connection to the address
RETRIES = 3  # of a batch whose node or process is lost
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

Files = dict[str, bytes]  # contents by path
Versions = dict[str, str]
loaded: dict[str, Any] = {}  # in a worker: the function it runs, by its key


class RayEngine(Engine):
    """The cluster at `compute.address`. It is asked when it is first needed."""

    is_remote = True

    def __init__(self, params: EngineParams) -> None:
        """Raises StageError if Ray is not installed."""
        if importlib.util.find_spec("ray") is None:
            raise StageError(
                "compute.engine is ray, which is not installed: pip install -e '.[ray]', or set "
                "compute.engine: local"
            )
        self.params = params
        self.address = ""
        self.expected: Versions = {}
        self.lock = threading.Lock()

    def map(
        self,
        work: Callable[[I], R],
        items: Iterable[I],
        *,
        reads: Callable[[I], Sequence[str]] = no_files,
        writes: Callable[[R], Sequence[str]] = no_files,
        crashed: Callable[[], R] | None = None,
        together: int = 64,
        on_gpu: bool = False,
        cpus: float = 1,
        **local: object,
    ) -> Iterator[R]:
        """Yield what `work` returns for each item, in order; see Engine.map.

        local: pool, chunk and spare, which mean nothing on a cluster. Raises StageError if the
        cluster cannot be reached, has no worker left, or has one with other versions.
        """
        self.connect()
        import ray

        gpus = self.gpus() if on_gpu else 0
        key, content = pack((work, writes))
        task = ray.put(content)
        remote = ray.remote(run_batch).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
        batches = iter(split_into_batches(items, reads, together))
        under_way: deque[tuple[Any, list[I]]] = deque()

        def start(batch: list[I]) -> tuple[Any, list[I]]:
            staged = [(item, bytes_of(reads(item))) for item in batch]
            return remote.remote(self.expected, key, task, staged), batch

        try:
            while True:
                # two batches for each worker, or exactly as many as compute.workers allows
                workers = len(self.places(gpus))
                most = self.params.count(2 * workers)
                while len(under_way) < max(1, most) and (batch := next(batches, None)):
                    under_way.append(start(batch))
                if not under_way:
                    return
                reference, batch = under_way.popleft()
                try:
                    found = self.wait(reference, gpus)
                except ray.exceptions.RayError as error:
                    if is_loss(error) and len(batch) > 1:
                        under_way.extendleft([start([item]) for item in reversed(batch)])
                        continue
                    if not is_loss(error) or crashed is None:
                        raise StageError(say(error)) from None
                    yield crashed()
                    continue
                del reference
                for result, files in found:
                    for path in writes(result):
                        write(path, files[path])
                    yield result
        finally:
            for reference, _ in under_way:
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.cancel(reference)

    def connect(self) -> None:
        """Connect to the cluster, once. Raises StageError if that fails, or on other versions."""
        with self.lock:  # downloads begin in many threads
            if not self.expected:
                self.address = find_address(self.params.address)
                self.join()
                self.refuse_other_versions(versions.installed())

    def join(self) -> None:
        """Connect to the cluster. Raises StageError in one line if that fails."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if self.address.startswith(LOOPBACK):
            # else Ray on Linux puts the machine's outer address in its place
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        import ray
        from ray._private import worker

        # what nodes say of themselves, on standard output, where predict writes its rows
        worker.print_to_stdstream = lambda *_, **__: None
        if not ray.is_initialized():
            try:
                ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # of the client, of the network, of other versions
                line = " ".join(str(error).split())[:300]
                raise StageError(f"compute.address: Ray at {self.address} says: {line}") from None

    def refuse_other_versions(self, own: Versions) -> None:
        """Expect versions of every worker. Raises StageError that names a node with others."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        cloudpickle().register_pickle_by_value(versions)  # a node may have no pawprint
        asked = {}
        for node in self.places(0):
            where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ask = ray.remote(versions.installed).options(num_cpus=0, scheduling_strategy=where)
            asked[node["NodeManagerAddress"]] = ask.remote()
        for address, reference in asked.items():
            try:
                found = ray.get(reference)
            except ray.exceptions.RayError as error:
                if is_loss(error):  # a node that has just gone
                    continue
                raise StageError(say(error)) from None
            refuse_difference(own, found, address)
        self.expected = own

    def places(self, gpus: float) -> list[dict[str, Any]]:
        """Return the nodes, each as often as a worker fits into it, with a CPU and `gpus`."""
        import ray

        found = []
        for node in ray.nodes():
            has = node["Resources"] if node["Alive"] else {}
            fits = has.get("CPU", 0.0)
            if gpus:
                fits = min(fits, has.get("GPU", 0.0) / gpus)
            found += [node] * int(fits)
        return found

    def has_gpus(self) -> bool:
        """Return whether the workers have GPUs. Raises StageError as `map` does."""
        self.connect()
        return self.gpus() > 0

    def count_workers(self) -> int:
        """Return how many workers the cluster has, of those with GPUs if there are any."""
        self.connect()
        return self.params.count(len(self.places(self.gpus())))

    def gpus(self) -> float:
        """Return the GPUs of one worker: `compute.gpus_per_worker`, or 1 if there are any."""
        import ray

        if self.params.gpus_per_worker != "auto":
            return self.params.gpus_per_worker
        return 1 if ray.cluster_resources().get("GPU") else 0

    def wait(self, reference: Any, gpus: float) -> Any:
        """Return what a task returns. Raises StageError if no worker is left to run it."""
        import ray

        while not ray.wait([reference], timeout=LOOK)[0]:
            if not self.places(gpus):
                raise StageError(
                    f"the cluster at {self.address} has no worker left with a CPU"
                    f"{f' and {gpus:g} GPU' if gpus else ''}; add a node, then rerun"
                )
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, (StageError, OSError)):
                raise error.cause from None
            raise


def find_address(given: str) -> str:
    """Return the address of a cluster that takes connections: HOST:PORT or ray://HOST:PORT.

    given: that, or auto for $RAY_ADDRESS, else for the last cluster that was started here.
    Raises StageError if there is none.
    """
    address = os.environ.get("RAY_ADDRESS", "auto") if given == "auto" else given
    if address == "auto":
        last = Path(tempfile.gettempdir(), "ray/ray_current_cluster")
        if not last.is_file():
            raise StageError(
                "compute.address is auto, but no Ray cluster runs here; start one (`ray start "
                "--head`), give its address, or set compute.engine: local"
            )
        address = last.read_text().strip()
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise StageError(
            f"compute.address is {address!r}; it should be auto, HOST:PORT, or ray://HOST:PORT"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except OSError as error:
        raise StageError(
            f"compute.address: no Ray cluster answers at {address} ({error.strerror or error}); "
            "start it, give another address, or set compute.engine: local"
        ) from None
    return address


def split_into_batches(
    items: Iterable[I], reads: Callable[[I], Sequence[str]], together: int
) -> Iterator[list[I]]:
    """Yield lists of at most `together` items, whose files have BATCH_BYTES at most."""
    batch: list[I] = []
    total = 0
    for item in items:
        size = sum(os.path.getsize(path) for path in reads(item) if os.path.isfile(path))
        if batch and (len(batch) == together or total + size > BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


def cloudpickle() -> Any:
    """Return Ray's pickle, which takes functions by value."""
    from ray.cloudpickle import cloudpickle as found

    return found


def pack(functions: tuple[Callable[..., Any], ...]) -> tuple[str, bytes]:
    """Return a hash of functions, and their pickle.

    Those of the library travel by name, because workers have it; those of a stage with their code.
    """
    for name in ("torch.classes", "torch.ops"):  # cloudpickle takes config.classes for the first
        if name in sys.modules:
            copyreg.pickle(type(sys.modules[name]), by_name)
    for function in functions:
        while isinstance(function, functools.partial):
            function = function.func
        module = sys.modules[getattr(function, "__module__", None) or type(function).__module__]
        if module.__name__.split(".")[0] not in ("pawprint", "__main__", "builtins"):
            cloudpickle().register_pickle_by_value(module)
    content = cloudpickle().dumps(functions)
    return hashlib.sha256(content).hexdigest(), content


def by_name(module: ModuleType) -> tuple[Callable[[str], ModuleType], tuple[str]]:
    """Return how a module is pickled that is an object of torch's."""
    return importlib.import_module, (module.__name__,)


def run_batch(
    expected: Versions, key: str, content: bytes, batch: list[tuple[Any, Files]]
) -> list[tuple[Any, Files]]:
    """Run a packed function on items, in a worker; return the results and the files they name.

    Raises StageError if this worker has other versions than the driver.
    """
    refuse_difference(expected, versions_here(), address_here())
    if key not in loaded:
        loaded.clear()
        loaded[key] = cloudpickle().loads(content)
    work, writes = loaded[key]
    results = []
    with temporary_home():
        for item, files in batch:
            for path, each in files.items():
                write(path, each)
            result = work(item)
            results.append((result, bytes_of(writes(result))))
    return results


@contextlib.contextmanager
def temporary_home() -> Iterator[None]:
    """Make an empty folder the working folder for a while."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="pawprint-") as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def write(path: str, content: bytes) -> None:
    """Write a file below the working folder."""
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise StageError(f"{path} lies outside the working folder; a worker has no such place")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        error.filename = path  # which a full disk leaves out
        raise


@functools.cache
def versions_here() -> Versions:
    """Return the versions of this worker."""
    return versions.installed()


def address_here() -> str:
    """Return the address of this worker's node."""
    import ray

    return ray.util.get_node_ip_address()


def refuse_difference(expected: Versions, found: Versions, address: str) -> None:
    """Raise StageError that names the node at `address` and what it has, if that differs."""
    other = [name for name in expected if found.get(name) != expected[name]]
    if other:
        theirs = ", ".join(f"{name} {found.get(name, 'none')}" for name in other)
        ours = ", ".join(f"{name} {expected[name]}" for name in other)
        raise StageError(
            f"the worker at {address} has {theirs}, this machine has {ours}; install the same "
            "there, or take it out of the cluster"
        )


def is_loss(error: Exception) -> bool:
    """Return whether an error says that a node, a process or its memory was lost."""
    from ray import exceptions as of

    lost = (of.WorkerCrashedError, of.OutOfMemoryError, of.NodeDiedError, of.ObjectLostError)
    return isinstance(error, (*lost, of.RayActorError, of.LocalRayletDiedError))


def say(error: Exception) -> str:
    """Return in one line what went wrong on the cluster, and what to do."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if is_loss(error):
        return f"the cluster lost the work {RETRIES + 1} times ({lines[0][:200]}); rerun"
    return f"a worker failed: {lines[-1][:300]}"
