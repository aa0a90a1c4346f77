"""Stages in a process that has imported torch already, which takes longer than most of them do.

Such a process is forked from multiprocessing's server, which imports the stages and does nothing
else. That `python -m stages.NAME` works is shown by the tests that run DVC.
"""

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

from benchmarks.project import ROOT
from pawprint.params import run_stage

SERVER = multiprocessing.get_context("forkserver")
SECONDS = 600
IMPORTED = ["timm", "scipy.stats", "stages.gather", "stages.verify", "stages.split"]
IMPORTED += [f"stages.{name}" for name in ("features", "baseline", "train", "interpret", "clean")]
IMPORTED += [f"stages.{name}" for name in ("evaluate", "export", "show_batch", "lr_find", "lr")]


def run_stages(folder: Path, *stages: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run stages, each a name and its arguments, one after the other in one process, in a folder.

    The code is this repository's, not that of the folder. One thread computes, unless params.yaml
    asks for more: two on busy cores wait for each other. What hangs is killed.
    """
    # only here: the server has the environment in which it starts, and a child gets that of today
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT)):
        SERVER.set_forkserver_preload(IMPORTED)
        forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as said:
        process = SERVER.Process(target=run, args=(folder, stages, dict(os.environ), said))
        process.start()
        process.join(SECONDS)
        process.kill()
        process.join()
        out, err = (Path(said, name).read_text() for name in ("out", "err"))
    assert process.exitcode is not None
    return subprocess.CompletedProcess(stages, process.exitcode, out, err)


def run(
    folder: Path, stages: Sequence[Sequence[str]], environment: Mapping[str, str], said: str
) -> None:
    """In the new process: write what the stages say to the files `out` and `err` in `said`."""
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(f"{said}/{name}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for name in [name for name in sys.modules if name.startswith("huggingface_hub")]:
        del sys.modules[name]  # timm imports it, and it reads the environment when it is imported
    code = None
    try:
        for name, *arguments in stages:
            sys.argv = [f"{name}.py", *arguments]
            run_stage(importlib.import_module(f"stages.{name}").main)
    except SystemExit as stopped:
        code = stopped.code
    sys.exit(code)  # after the bars of the stage, which the traceback has kept, are gone
