"""The server of `pawprint repro`: it imports libraries, and forks the stages.

It is run as a file and imports nothing of pawprint, so that a stage imports the project's own code.
"""

import sys

sys.path.pop(0)  # this folder: a stage has the project's in its place

import contextlib
import importlib
import json
import os
import select
import signal
import socket
from typing import Any

# The first stages need only the first of them, and need not wait for the others.
LIBRARIES = ["numpy", "pandas", "pydantic", "ruamel.yaml", "PIL.Image", "scipy.fftpack"]
LIBRARIES += ["cleanvision", "safetensors", "torch", "timm", "torch.optim", "scipy.stats"]
LIBRARIES += ["sklearn.linear_model", "sklearn.metrics", "matplotlib.figure", "jinja2"]
LIBRARIES += ["onnxruntime.quantization", "torch.onnx"]

Request = tuple[str, list[str], str, dict[str, str], list[int]]


def serve(door: socket.socket) -> Request:
    """Wait for stages, and fork a process for each. Return only there, with what it shall run."""
    parent, waiting = os.getppid(), list(LIBRARIES)
    processes: dict[int, tuple[int, socket.socket]] = {}  # by pidfd: its id, and who asked for it
    while os.getppid() == parent:
        guests = {guest.fileno(): pid for pid, guest in processes.values()}
        asked = [door.fileno(), *processes, *guests]
        ready, _, _ = select.select(asked, [], [], 0 if waiting else 5)
        for each in ready:
            if each == door.fileno():
                guest, _ = door.accept()
                request = receive(guest)
                pid = os.fork()
                if not pid:
                    guest.close()
                    return request
                for stream in request[4]:
                    os.close(stream)
                processes[os.pidfd_open(pid)] = (pid, guest)
            elif each in processes:
                pid, guest = processes.pop(each)
                os.close(each)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(OSError), guest:
                    guest.sendall(code.to_bytes(8, "little", signed=True))
                break  # its guest is gone too
            else:  # the `python` that asked has been killed
                os.kill(guests[each], signal.SIGKILL)
        if not ready and waiting:
            with contextlib.suppress(ImportError):
                importlib.import_module(waiting.pop(0))
    sys.exit()


def receive(guest: socket.socket) -> Request:
    """Read what a `python` asks for."""
    length, streams, *_ = socket.recv_fds(guest, 8, 3)
    with guest.makefile("rb") as file:
        name, arguments, folder, environment = json.loads(
            file.read(int.from_bytes(length, "little"))
        )
    return name, arguments, folder, environment, streams


def run(request: Request) -> None:
    """Do as `python -m stages.NAME` does in its folder, with its environment and streams."""
    name, arguments, folder, environment, streams = request
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path.insert(0, folder)
    stage: Any = importlib.import_module(name)
    sys.argv = [stage.__file__, *arguments]
    params: Any = importlib.import_module("pawprint.params")
    params.run_stage(stage.main)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as here:
        asked = serve(here)
    run(asked)
