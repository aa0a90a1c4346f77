"""Stages in a process that has imported torch already, which takes longer than most of them do.

Such a process is forked from multiprocessing's server, which imports the stages and does nothing
else. `run_stages` starts one; DVC does too where `warm_python` comes first on its PATH. That
`python -m stages.NAME` works is shown by the fixture `origin`, in which DVC runs every stage so.
"""

import atexit
import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import connection, forkserver
from pathlib import Path
from unittest import mock

from benchmarks.project import ROOT
from pawprint.params import run_stage

SERVER = multiprocessing.get_context("forkserver")
SECONDS = 600
IMPORTED = ["timm", "scipy.stats", "stages.gather", "stages.verify", "stages.split"]
IMPORTED += [f"stages.{name}" for name in ("features", "baseline", "train", "interpret", "clean")]
IMPORTED += [f"stages.{name}" for name in ("evaluate", "export", "show_batch", "lr_find", "lr")]


def start_server() -> None:
    """Start the server if it does not run yet."""
    # only here: the server has the environment in which it starts, and a child gets that of today
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT)):
        SERVER.set_forkserver_preload(IMPORTED)
        forkserver.ensure_running()


def run_stages(folder: Path, *stages: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run stages, each a name and its arguments, one after the other in one process, in a folder.

    The code is this repository's, not that of the folder. One thread computes, unless params.yaml
    asks for more: two on busy cores wait for each other. What hangs is killed.
    """
    start_server()
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
    become(folder, environment)
    code = None
    try:
        for name, *arguments in stages:
            run_one(name, arguments)
    except SystemExit as stopped:
        code = stopped.code
    sys.exit(code)  # after the bars of the stage, which the traceback has kept, are gone


def become(folder: Path | str, environment: Mapping[str, str]) -> None:
    """Work in a folder, with an environment."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for name in [name for name in sys.modules if name.startswith("huggingface_hub")]:
        del sys.modules[name]  # timm imports it, and it reads the environment when it is imported


def run_one(name: str, arguments: Sequence[str]) -> None:
    """Run a stage with its arguments."""
    sys.argv = [f"{name}.py", *arguments]
    run_stage(importlib.import_module(f"stages.{name}").main)


# --- under DVC ---

# What the `python` that DVC finds does: it hands the stage and its own three streams to the porter,
# and ends as the stage ends. With anything else than a stage it becomes the real python.
ASK = """\
import json, os, socket, sys
words = sys.argv[1:]
if words[:1] != ["-m"] or not words[1].startswith("stages."):
    os.execv({python!r}, [{python!r}, *words])
mask = os.umask(0)
what = json.dumps([words[1][7:], words[2:], os.getcwd(), dict(os.environ), mask]).encode()
with socket.socket(socket.AF_UNIX) as porter:
    porter.connect({address!r})
    socket.send_fds(porter, [b"%9d" % len(what)], [0, 1, 2])
    porter.sendall(what)
    code = int(porter.recv(9) or 1)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""

FORK = multiprocessing.get_context("fork")


@functools.cache
def warm_python() -> Path:
    """The folder of a `python` that runs stages of this repository's code in forked processes.

    A project's own stages/ must be this repository's. A stage gets the environment and the folder
    of the `python`, and is killed if that is; but one thread computes, as in `run_stages`.
    """
    folder = Path(tempfile.mkdtemp(prefix="warm"))
    start_server()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / "porter"))
        door.listen(64)
        porter = SERVER.Process(target=open_door, args=(door,))
        porter.start()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(porter.kill)
    ask = folder / "ask.py"
    ask.write_text(ASK.format(python=sys.executable, address=str(folder / "porter")))
    python = folder / "python"
    command = shlex.join([sys.executable, "-IS", str(ask)])
    python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    python.chmod(0o755)
    return folder


def open_door(door: socket.socket) -> None:
    """In a process of its own, which never ends: start one more for every `python` that comes."""
    while True:
        guest, _ = door.accept()
        FORK.Process(target=serve, args=(guest,)).start()
        guest.close()


def serve(guest: socket.socket) -> None:
    """Run the stage that a `python` asks for, and tell it how it ended."""
    length, streams, *_ = socket.recv_fds(guest, 9, 3)
    text = b""
    while len(text) < int(length):
        text += guest.recv(int(length) - len(text))
    process = FORK.Process(target=run_guest, args=(streams, *json.loads(text)))
    process.start()
    for stream in streams:
        os.close(stream)
    connection.wait([process.sentinel, guest])
    if process.is_alive():  # the `python` has been killed
        process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it has started
    process.join()
    with contextlib.suppress(BrokenPipeError):
        guest.sendall(b"%9d" % process.exitcode)


def run_guest(
    streams: Sequence[int],
    name: str,
    arguments: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    mask: int,
) -> None:
    """In the new process: do as `python -m stages.NAME`, with these streams."""
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    become(folder, environment)
    os.umask(mask)
    sys.orig_argv = [sys.executable, "-m", f"stages.{name}", *arguments]
    for each in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if (start := Path(each, "sitecustomize.py")).is_file():
            runpy.run_path(str(start))
    run_one(name, arguments)
