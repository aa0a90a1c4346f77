"""The map on this machine, and what it has in common with that on a cluster.

A function, its items, and which files it reads and writes for one of them; results come in the
order of the items. On this machine the function runs in the working folder. On a cluster the files
travel (see pawprint/compute/cluster.py), and only the process that calls `map` reads and writes
them, so tables and pictures are the same bytes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from pawprint.compute.cores import cores

CHOICE = "PAWPRINT_ENGINE"  # the environment variable that overrules compute.engine
AHEAD = 32  # items that may be under way in threads before the first of them is used

I = TypeVar("I")  # noqa: E741  an item
R = TypeVar("R")  # its result


def no_files(_: object) -> Sequence[str]:
    """Return no paths: of a function that reads, or writes, no file."""
    return ()


class Engine:
    """This machine."""

    is_remote = False

    def has_gpus(self) -> bool:
        """Return whether a cluster's workers have GPUs."""
        return False

    def count_workers(self) -> int:
        """Return how many workers there are: none but this machine."""
        return 1

    def map(
        self,
        work: Callable[[I], R],
        items: Iterable[I],
        *,
        pool: Literal["here", "threads", "processes"],
        chunk: int = 1,
        spare: int = 0,
        reads: Callable[[I], Sequence[str]] = no_files,
        writes: Callable[[R], Sequence[str]] = no_files,
        crashed: Callable[[], R] | None = None,
        together: int = 64,
        on_gpu: bool = False,
        cpus: float = 1,
    ) -> Iterator[R]:
        """Yield what `work` returns for each item, in order.

        work, reads, writes: for processes and clusters, functions that pickle takes. pool: where
        work runs on this machine, in processes `chunk` items at a time. spare: threads beside one
        per core, for work that waits for threads of a library's own. reads: the files, relative
        to the working folder, that work opens for an item. writes: those that it has written for a
        result. crashed: the result of an item that ends its process; without it, that is an
        error. together: items that a worker of a cluster takes at a time, at most. on_gpu: a worker
        of a cluster uses a GPU, if there are any. cpus: what part of a CPU it is counted for.
        """
        if pool == "processes":
            return map_in_processes(work, items, chunk, crashed)
        if pool == "threads":
            return map_in_threads(work, items, cores() + spare)
        return map(work, items)


def map_in_processes(
    work: Callable[[I], R], items: Iterable[I], chunk: int, crashed: Callable[[], R] | None
) -> Iterator[R]:
    """Yield the results, in order, of all cores; that of an item which ends its process too."""
    items, done = list(items), 0
    while done < len(items):
        try:
            with ProcessPoolExecutor(cores()) as pool:
                for result in pool.map(work, items[done:], chunksize=chunk):
                    yield result
                    done += 1
        except BrokenProcessPool:
            if crashed is None:
                raise
            # one by one until it is known which it was, then all cores again
            for item in items[done:]:
                result, found = run_alone(work, item, crashed)
                yield result
                done += 1
                if found:
                    break


def run_alone(work: Callable[[I], R], item: I, crashed: Callable[[], R]) -> tuple[R, bool]:
    """Return the result of one item in a process of its own, and whether it ended the process."""
    try:
        with ProcessPoolExecutor(1) as alone:
            return alone.submit(work, item).result(), False
    except BrokenProcessPool:
        return crashed(), True


def map_in_threads(work: Callable[[I], R], items: Iterable[I], threads: int) -> Iterator[R]:
    """Yield the results, in order, of some threads; AHEAD of them wait to be used at most."""
    remaining = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        under_way = deque(pool.submit(work, item) for item in islice(remaining, AHEAD))
        while under_way:
            yield under_way.popleft().result()
            under_way.extend(pool.submit(work, item) for item in islice(remaining, 1))


def bytes_of(paths: Iterable[str]) -> dict[str, bytes]:
    """Return the contents of files by path; a file that is not there is left out."""
    found: dict[str, Any] = {}
    for path in paths:
        try:
            found[path] = Path(path).read_bytes()
        except FileNotFoundError:  # whoever opens it says so, there as here
            continue
    return found
