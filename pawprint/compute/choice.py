"""Which engine does the work: what params.yaml, the environment or a command line says."""

import os

from pawprint.compute.engine import CHOICE, Engine
from pawprint.compute.settings import EngineParams
from pawprint.params import StageError

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
