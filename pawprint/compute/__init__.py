"""One map over pictures: on the cores of this machine, or on a Ray cluster.

`open_engine` gives what `compute.engine` names. Both kinds have the same `map`: a function, its
items, and which files it reads and writes for one of them. Results come in the order of the items.
On this machine the function runs in the working folder. On a cluster the files travel (see
pawprint/compute/cluster.py), and only the process that calls `map` reads and writes them, so tables
and pictures are the same bytes.

Ray is imported only if it is chosen.
"""

import os

from pawprint.compute.engine import AHEAD, Engine, EngineParams, cores
from pawprint.params import StageError

__all__ = ["AHEAD", "CHOICE", "WORKERS", "Engine", "EngineParams", "cores", "open_engine"]

CHOICE = "PAWPRINT_ENGINE"  # the environment variable that overrules compute.engine
WORKERS = "PAWPRINT_WORKERS"  # that overrules compute.workers


def open_engine(params: EngineParams, asked: str | None = None) -> Engine:
    """Return what the work is done with; a cluster is connected to when it is first used.

    asked: what a command line names, which overrules $PAWPRINT_ENGINE, which overrules params.
    Raises StageError if $PAWPRINT_ENGINE names none, or if Ray is chosen and not installed.
    """
    chosen = asked or os.environ.get(CHOICE) or params.engine
    if chosen == "local":
        return Engine()
    if chosen != "ray":
        raise StageError(f"{CHOICE} is {chosen!r}; it should be local or ray")
    from pawprint.compute.cluster import RayEngine

    number = os.environ.get(WORKERS, "")
    if not number:
        return RayEngine(params)
    if not number.isdecimal() or int(number) < 1:
        raise StageError(f"{WORKERS} is {number!r}; it should be a whole number from 1 on")
    return RayEngine(params.model_copy(update={"workers": int(number)}))
