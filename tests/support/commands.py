"""Running the commands of pawprint as people do."""

import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from pawprint.commands.review import Decisions
from tests.support.project import ROOT


def picture_id(i: int) -> str:
    """A picture's name for tests: sixteen hex digits."""
    return f"{i:016x}"


def predict(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pawprint", "predict", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True)


class ServeProcess:
    """A `pawprint serve` of its own on 127.0.0.1."""

    def __init__(self, export, *arguments: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockpicture_id()[1]
        command = [
            sys.executable,
            "-m",
            "pawprint",
            "serve",
            str(export),
            "--port",
            str(port),
            *arguments,
        ]
        # not a pipe: nobody empties it, and a full one stops the server
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=self.log, stderr=subprocess.STDOUT
        )
        self.url, self.address = f"http://127.0.0.1:{port}", ("127.0.0.1", port)
        for _ in range(200):
            try:
                assert httpx.get(f"{self.url}/healthz").status_code == 200
                return
            except httpx.TransportError:
                assert self.process.poll() is None, self.said()
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def predict(self, content: bytes, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", content=content, headers=headers, timeout=30)

    def accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(self.address) == 0

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        return self.said()

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()


def add_rows(path: Path, start: int) -> None:
    decisions = Decisions(path)
    for i in range(start, start + 25):
        decisions.change(
            picture_id(i),
            {"image": picture_id(i), "action": "keep", "label": "", "by": "", "note": ""},
        )
