"""Measure how fast gather downloads, beside a single client and a plain thread pool.

    python -m benchmarks.gather FOLDER    # a folder of any files

In one run, a local server of FOLDER's files that waits 100 ms before each answer is asked by: a
sequential client (urllib, one connection per file); a pool of threads as img2dataset has it
(urllib in a ThreadPool, no checks, no retries, nothing kept from which a run could go on); and
ours, the whole stage gather with its journal, hashes, checks, limit per host and lock, from a list
of addresses (`gather.source: urls`). The pool and ours use the same number of connections. Only
the ratios can be compared between machines.
"""

import argparse
import functools
import http.server
import multiprocessing
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from urllib.parse import quote

from benchmarks.project import ProjectCopy
from pawprint.tables import read_table
from stages import gather

Run = Callable[[list[str], int], int]  # addresses and connections; how many files came


class Handler(http.server.SimpleHTTPRequestHandler):
    """Answers after a delay, and logs nothing."""

    protocol_version = "HTTP/1.1"
    delay = 0.0

    def do_GET(self) -> None:
        time.sleep(self.delay)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


def serve(folder: Path, delay: float) -> str:
    """Start a server of the folder in a process of its own; return its address."""
    Handler.delay = delay
    http.server.ThreadingHTTPServer.request_queue_size = 256
    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    fork = multiprocessing.get_context("fork")
    fork.Process(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def fetch(url: str) -> bytes:
    """Return what is at an address."""
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read()


def sequential(urls: list[str], connections: int) -> int:
    """Fetch one after the other."""
    return sum(Path(f"{number}.jpg").write_bytes(fetch(url)) > 0 for number, url in enumerate(urls))


def pool(urls: list[str], connections: int) -> int:
    """Fetch as img2dataset does: a thread pool over urllib, results as they come."""
    with ThreadPool(connections) as workers:
        bodies = workers.imap_unordered(lambda item: (item[0], fetch(item[1])), enumerate(urls))
        return sum(Path(f"{number}.jpg").write_bytes(body) > 0 for number, body in bodies)


def ours(urls: list[str], connections: int) -> int:
    """Run the stage in the current folder, which `prepare` has made a project."""
    gather.main()
    return int((read_table("data/gathered.csv")["status"] == "ok").sum())


def prepare(folder: Path, urls: list[str], connections: int) -> None:
    """Copy the project, with the addresses in two classes: a classifier needs two."""
    project = ProjectCopy(folder)
    for label, part in (("first", urls[::2]), ("second", urls[1::2])):
        (folder / f"data/own/{label}.txt").write_text("\n".join(part) + "\n")
    project.edit(**{"gather.source": "urls", "gather.allow_private": True})
    limits = {"gather.download.threads": connections, "gather.download.per_host": connections}
    project.edit(**limits)


def measure(run: Run, urls: list[str], connections: int) -> float:
    """Return the seconds that a run takes, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        if run is ours:
            prepare(Path(folder), urls, connections)
        os.chdir(folder)
        started = time.perf_counter()
        count = run(urls, connections)
        took = time.perf_counter() - started
        os.chdir("/")
    name = f"{run.__name__:>10}, {connections:2} connections"
    print(f"{name}: {took:6.2f} s, {count} of {len(urls)}", file=sys.stderr)
    return took


def main() -> None:
    """Serve the folder, fetch it in all ways, and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delay", type=float, default=0.1, help="seconds before each answer")
    parser.add_argument("--connections", type=int, nargs="+", default=[8, 16, 32])
    arguments = parser.parse_args()
    root = arguments.folder.resolve()
    base = serve(root, arguments.delay)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    urls = [f"{base}/{quote(path.relative_to(root).as_posix())}" for path in files]
    slow = measure(sequential, urls, 1)
    for connections in arguments.connections:
        theirs, own = measure(pool, urls, connections), measure(ours, urls, connections)
        print(
            f"{len(urls)} files, {arguments.delay * 1000:.0f} ms per request, {connections} "
            f"connections: ours is {slow / own:.1f} x as fast as one after the other and takes "
            f"{own / theirs:.2f} x the thread pool's time"
        )


if __name__ == "__main__":
    main()
