"""How `pawprint serve` bears load: throughput and latency at 1, 8 and 64 clients, right answers, and memory.

    python benchmarks/serve.py EXPORT FOLDER

A server with its default limits answers photos of FOLDER over keep-alive connections on this machine, for 15 seconds at
each concurrency; a client that is refused with 503 waits as Retry-After says. Every answer is compared with what the
model says when it is asked directly. Then come 10,000 requests in a row with the memory of the server before and after;
one in ten is malformed. Exit code 1 where an answer is wrong, a status unexpected, or memory grows by over 20 MB.
Clients and server share the cores, so that another machine is asked for more than these figures show.
"""

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
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pawprint.commands.exported import load
from pawprint.commands.predict import find

ROOT = Path(__file__).resolve().parents[1]
SECONDS, CLIENTS, MANY, PHOTOS = 15, (1, 8, 64), 10_000, 30
MALFORMED = (
    b"",
    b"<html>",
    b"\xff\xd8\xff" + bytes(500),
    b"\x89PNG\r\n\x1a\n" + bytes(80),
    None,
)  # None: one cut off


async def post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> tuple[int, dict]:
    """Send one picture; the status, and the JSON of the answer."""
    writer.write(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(
        line.split(":")[1]
        for line in head.splitlines()
        if line.lower().startswith("content-length")
    )
    return int(head.split()[1]), json.loads(await reader.readexactly(int(length)))


class Run:
    """Clients that ask one after the other until told to stop, and what they saw."""

    def __init__(self, port: int, bodies: list[bytes], known: list[dict]) -> None:
        self.port, self.bodies, self.known = port, bodies, known
        self.seconds: list[float] = []
        self.codes: Counter[int] = Counter()
        self.wrong = 0
        self.number = count()

    async def client(self, until: float, most: int, malformed: int = 0) -> None:
        """Ask until a moment, or until all clients together have asked `most` times; one in `malformed` is none."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while time.perf_counter() < until and (i := next(self.number)) < most:
            body = self.bodies[i % len(self.bodies)]
            bad = malformed and i % malformed == 0
            if bad:
                sent = MALFORMED[i // malformed % len(MALFORMED)]
                body = body[: len(body) // 2] if sent is None else sent
            started = time.perf_counter()
            code, answer = await post(reader, writer, body)
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


def same(answer: dict, known: dict) -> bool:
    """Whether two answers are one, up to the last digits."""
    return (
        answer["label"] == known["label"]
        and abs(answer["probability"] - known["probability"]) < 1e-5
    )


def memory(pid: int) -> float:
    """Resident megabytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measure(port: int, pid: int, bodies: list[bytes], known: list[dict]) -> int:
    """Print a row a concurrency, and memory; how many answers were wrong, or 1 where memory grew."""
    wrong = 0
    print(
        "| clients | answers a second | p50 ms | p99 ms | refused (503) | wrong |\n|---|---|---|---|---|---|"
    )
    for clients in CLIENTS:
        run, until = Run(port, bodies, known), time.perf_counter() + SECONDS
        await asyncio.gather(*(run.client(until, 10**9) for _ in range(clients)))
        middle, slow = np.percentile(run.seconds, [50, 99]) * 1000
        rate, refused = len(run.seconds) / SECONDS, run.codes[503]
        print(
            f"| {clients} | {rate:.0f} | {middle:.0f} | {slow:.0f} | {refused} | {run.wrong} |",
            flush=True,
        )
        wrong += run.wrong
    before, run = memory(pid), Run(port, bodies, known)
    await asyncio.gather(*(run.client(float("inf"), MANY, malformed=10) for _ in range(8)))
    after = memory(pid)
    print(
        f"memory over {MANY} requests ({dict(sorted(run.codes.items()))}): {before:.0f} MB before, {after:.0f} MB after"
    )
    return wrong + run.wrong + (after - before > 20)


def main(export: str, folder: str) -> None:
    classifier = load(Path(export))
    photos = list(find([folder]))
    photos = photos[:: max(1, len(photos) // PHOTOS)]
    known = [classifier(Image.open(photo)) for photo in photos]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "pawprint",
        "serve",
        str(Path(export).resolve()),
        "--port",
        str(port),
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, cwd=ROOT, **quiet)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if server.poll() is not None:
                sys.exit("benchmarks/serve.py: the server did not start")
            time.sleep(0.1)
        print(f"{len(photos)} photos, {len(os.sched_getaffinity(0))} cores for clients and server")
        wrong = asyncio.run(
            measure(port, server.pid, [Path(photo).read_bytes() for photo in photos], known)
        )
    finally:
        server.terminate()
        server.wait()
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
