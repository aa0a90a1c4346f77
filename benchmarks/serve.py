"""Measure `pawprint serve` under load: throughput, latency, right answers and memory.

    python -m benchmarks.serve EXPORT FOLDER

A server with its default limits answers photos of FOLDER over keep-alive connections on this
machine, for 15 seconds each at 1, 8 and 64 clients. A client that is refused with 503 waits as
Retry-After says. Every answer is compared with what the model says when it is asked directly. Then
come 10,000 requests in a row, one in ten malformed; the server's memory is read before and after.
Exit code 1 if an answer is wrong, a status is unexpected, or memory grows by more than 20 MB.
Clients and server share the cores, so a server alone on a machine answers more than shown here.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np

from benchmarks.project import ROOT, photos_in
from pawprint.commands.exported import load
from pawprint.commands.runtimes import RUNTIMES
from pawprint.compute.cores import cores

SECONDS = 15
CLIENTS = (1, 8, 64)
MANY = 10_000
PHOTOS = 30
MALFORMED = (
    b"",
    b"<html>",
    b"\xff\xd8\xff" + bytes(500),
    b"\x89PNG\r\n\x1a\n" + bytes(80),
    None,  # a picture cut off
)


class Run:
    """Clients that ask one request after the other, and what they saw.

    bodies: the pictures; known: the right answer to each. `codes` counts the statuses, `wrong` the
    wrong answers, and `seconds` are those of the right ones.
    """

    def __init__(self, port: int, bodies: list[bytes], known: list[dict]) -> None:
        self.port, self.bodies, self.known = port, bodies, known
        self.seconds: list[float] = []
        self.codes: Counter[int] = Counter()
        self.wrong = 0
        self.number = count()

    async def client(self, until: float, most: int, malformed: int = 0) -> None:
        """Ask until a moment, or until all clients together have asked `most` times.

        malformed: one request in so many is malformed; 0 for none.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while time.perf_counter() < until and (i := next(self.number)) < most:
            body = self.bodies[i % len(self.bodies)]
            bad = bool(malformed) and i % malformed == 0
            if bad:
                sent = MALFORMED[i // malformed % len(MALFORMED)]
                body = body[: len(body) // 2] if sent is None else sent
            started = time.perf_counter()
            code, answer = await self.post(reader, writer, body)
            self.codes[code] += 1
            if code == 503:
                await asyncio.sleep(1)
            elif bad:
                self.wrong += code not in (415, 422)
            elif code != 200:
                self.wrong += 1
            else:
                self.seconds.append(time.perf_counter() - started)
                self.wrong += not same(answer, self.known[i % len(self.known)])
        writer.close()

    async def post(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
    ) -> tuple[int, dict]:
        """Send one picture; return the status and the JSON of the answer."""
        host = f"127.0.0.1:{self.port}"
        head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        fields = dict(line.lower().split(":", 1) for line in headers if line)
        content = await reader.readexactly(int(fields["content-length"]))
        return int(status.split()[1]), json.loads(content)


def same(answer: dict, known: dict) -> bool:
    """Return whether two answers agree up to the last digits."""
    difference = abs(answer["probability"] - known["probability"])
    return answer["label"] == known["label"] and difference < 1e-5


def memory(pid: int) -> float:
    """Return the resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measure(port: int, pid: int, bodies: list[bytes], known: list[dict]) -> bool:
    """Print one row per number of clients, and memory; return whether all was well."""
    wrong = 0
    print("| clients | answers per second | p50 ms | p99 ms | refused (503) | wrong |")
    print("|---|---|---|---|---|---|")
    for clients in CLIENTS:
        run, until = Run(port, bodies, known), time.perf_counter() + SECONDS
        await asyncio.gather(*(run.client(until, 10**9) for _ in range(clients)))
        median, slow = np.percentile(run.seconds, [50, 99]) * 1000
        figures = f"{len(run.seconds) / SECONDS:.0f} | {median:.0f} | {slow:.0f}"
        print(f"| {clients} | {figures} | {run.codes[503]} | {run.wrong} |", flush=True)
        wrong += run.wrong

    before, run = memory(pid), Run(port, bodies, known)
    await asyncio.gather(*(run.client(float("inf"), MANY, malformed=10) for _ in range(8)))
    after = memory(pid)
    statuses = dict(sorted(run.codes.items()))
    print(f"{MANY} requests {statuses}: memory {before:.0f} MB before, {after:.0f} MB after")
    return wrong + run.wrong == 0 and after - before <= 20


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def main() -> None:
    """Start a server, measure it, stop it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runtime", choices=RUNTIMES, default=RUNTIMES[0])
    arguments = parser.parse_args()
    runtime, photos = arguments.runtime, photos_in(arguments.folder)
    classifier = load(arguments.export, threads=1, runtime=runtime)
    photos = photos[:: max(1, len(photos) // PHOTOS)]
    known = [classifier(photo) for photo in photos]
    port = free_port()
    command = ["-m", "pawprint", "serve", str(arguments.export.resolve()), "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, *command, "--runtime", runtime],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if server.poll() is not None:
                sys.exit("benchmarks.serve: the server did not start")
            time.sleep(0.1)
        print(f"{len(photos)} photos, {cores()} cores for clients and server")
        bodies = [photo.read_bytes() for photo in photos]
        well = asyncio.run(measure(port, server.pid, bodies, known))
    finally:
        server.terminate()
        server.wait()
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
