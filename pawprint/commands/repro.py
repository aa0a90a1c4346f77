"""`pawprint repro`: `dvc repro`, whose stages need not import torch again.

DVC starts a process for every stage, and most of them import torch, timm and pandas for 3 to 4 s.
Here a server imports these once, beside DVC's own start, and a stage is forked from it: a process
of its own, with the folder, the environment and the streams that DVC gives it. It imports the
project's code anew, so code that was edited counts, and it writes the same bytes.

The server is reached by a `python` that comes first on DVC's PATH and hands `-m stages.NAME` to it;
anything else goes to the real python. It ends with the command. Without Linux's pidfd this is
`dvc repro` and no more.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER = Path(__file__).with_name("warm_server.py")

# What the `python` on DVC's PATH does: it ends as the stage ends.
ASK = """\
import json, os, socket, sys
words = sys.argv[1:]
if words[:1] != ["-m"] or not words[1].startswith("stages."):
    os.execv({python!r}, [{python!r}, *words])
request = json.dumps([words[1], words[2:], os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [len(request).to_bytes(8, "little")], [0, 1, 2])
    server.sendall(request)
    answer = server.recv(8)
code = int.from_bytes(answer, "little", signed=True) if answer else 1
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command: all are DVC's, options too."""
    parser.prefix_chars = " "
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, help="as for `dvc repro`: stages, --force, …"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run `dvc repro`, and exit as it does."""
    command = [sys.executable, "-m", "dvc", "repro", *arguments.arguments]
    if not hasattr(os, "pidfd_open"):
        sys.exit(wait_for(subprocess.Popen(command)))
    with tempfile.TemporaryDirectory(prefix="pawprint-") as folder:
        address = f"{folder}/server"
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(address)
            door.listen()
            start = [sys.executable, str(SERVER), str(door.fileno())]
            server = subprocess.Popen(start, pass_fds=[door.fileno()])
        write_python(Path(folder), address)
        path = f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        try:
            code = wait_for(subprocess.Popen(command, env={**os.environ, "PATH": path}))
        finally:
            server.kill()
            server.wait()
    sys.exit(code)


def write_python(folder: Path, address: str) -> None:
    """Write the `python` that asks the server at an address."""
    ask, python = folder / "ask.py", folder / "python"
    ask.write_text(ASK.format(python=sys.executable, address=address))
    python.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-IS", str(ask)])} "$@"\n')
    python.chmod(0o755)


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a process, which gets Ctrl-C itself: this one waits for its end."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
