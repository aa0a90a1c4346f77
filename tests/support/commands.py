"""Running the commands of pawprint as people do."""

import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from pawprint.commands.review.decisions import Decisions
from tests.support.project import ROOT

SECONDS = 300  # for what takes one or two, as other processes may be busy


def picture_id(i: int) -> str:
    """Return a picture's name for tests: sixteen hex digits."""
    return f"{i:016x}"


def pawprint(*words: object, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
    """Run a command of pawprint to its end."""
    command = [sys.executable, "-m", "pawprint", *map(str, words)]
    given = stdin if isinstance(stdin, bytes) else stdin.encode()
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, timeout=SECONDS)
    return subprocess.CompletedProcess(
        command, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def predict(*words: object, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
    return pawprint("predict", *words, stdin=stdin)


class ServerProcess:
    """A `pawprint serve` or `pawprint review` of its own on 127.0.0.1."""

    def __init__(
        self, *words: object, port: int = 0, before: Callable[[], None] | None = None
    ) -> None:
        """words: the command and its arguments; before: what the process does before it starts."""
        command = [sys.executable, "-m", "pawprint", *map(str, words), "--port", str(port)]
        # not a pipe: nobody empties it, and a full one stops the server
        self.log = tempfile.NamedTemporaryFile()  # noqa: SIM115  (it lives as long as self)
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=self.log, stderr=subprocess.STDOUT, preexec_fn=before
        )
        found, deadline = None, time.monotonic() + SECONDS
        while not found:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)
            found = re.search(r"http://(127\.0\.0\.1):(\d+)/", self.said())
        self.address = (found[1], int(found[2]))
        self.url = found[0].rstrip("/")

    def predict(self, content: bytes, **headers: str) -> httpx.Response:
        return self.post("/predict", content=content, headers=headers)

    def post(self, path: str, **what: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=SECONDS, **what)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=headers, timeout=SECONDS)

    def accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(self.address) == 0

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        return self.said()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        return Path(self.log.name).read_text()


def add_rows(path: Path, start: int) -> None:
    """Decide about 25 pictures, from number `start` on."""
    decisions = Decisions(path)
    for i in range(start, start + 25):
        row = {"image": picture_id(i), "action": "keep", "label": "", "by": "", "note": ""}
        decisions.change([picture_id(i)], lambda image, old, row=row: row)
