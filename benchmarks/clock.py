"""Seconds, CPU seconds and memory of this process. It needs nothing beyond the standard library."""

import os
import resource
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def cpu_seconds() -> float:
    """Return the seconds of CPU that this process and its ended children have used."""
    return sum(os.times()[:4])


def peak_memory() -> float:
    """Return the highest resident set of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(call: Callable[[], R]) -> tuple[R, float, float]:
    """Return what `call` returns, and the seconds and CPU seconds that it takes."""
    started, used = time.perf_counter(), cpu_seconds()
    result = call()
    return result, time.perf_counter() - started, cpu_seconds() - used


class Clock:
    """The seconds that named calls take: `took[name]`, and `took[name_cpu]` in CPU seconds."""

    def __init__(self) -> None:
        self.took: dict[str, float] = {}

    def timed(self, name: str, call: Callable[P, R]) -> Callable[P, R]:
        """Return a function that does what `call` does, and keeps its seconds under `name`."""

        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            result, seconds, used = measured(lambda: call(*args, **kwargs))
            self.took |= {name: seconds, f"{name}_cpu": used}
            return result

        return wrapper
