"""How fast gather downloads the files of a folder from a local server that takes 100 ms for each, beside two others.

    python benchmarks/gather.py FOLDER

In one run, over the same server: a sequential client (urllib, a connection a file), a pool of threads as img2dataset
has it (urllib in a ThreadPool, no checks, no retries, nothing written that could be resumed), and ours: all of
`stages.gather`'s download with its journal, hashes, checks and per-host limit. Threads and per-host limit are the same
for the pool and ours. Only ratios mean anything on another machine.
"""

import argparse
import http.server
import os
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pawprint.sources import Found
from pawprint.sources.download import Downloader, DownloadParams
from pawprint.sources.journal import Journal
from stages import gather

Run = Callable[[list[str], int], int]


def serve(folder: Path, delay: float) -> str:
    """Start a server of the folder in a process of its own; its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            time.sleep(delay)
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    http.server.ThreadingHTTPServer.request_queue_size = 256
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if os.fork() == 0:
        parent = os.getppid()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(0)
    return f"http://127.0.0.1:{server.server_address[1]}"


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read()


def sequential(urls: list[str], threads: int) -> int:
    return sum(Path(f"{number}.jpg").write_bytes(fetch(url)) > 0 for number, url in enumerate(urls))


def pool(urls: list[str], threads: int) -> int:
    """The shape of img2dataset's downloader: a thread pool over urllib, results as they come."""
    with ThreadPool(threads) as workers:
        bodies = workers.imap_unordered(lambda item: (item[0], fetch(item[1])), enumerate(urls))
        return sum(Path(f"{number}.jpg").write_bytes(body) > 0 for number, body in bodies)


def ours(urls: list[str], threads: int) -> int:
    options = DownloadParams(threads=threads, per_host=threads)
    with Downloader(options, allow_private=True) as downloader:
        rows = gather.download(
            [Found(url, "all") for url in urls], downloader, Journal("benchmark")
        )
    return sum(row["status"] == "ok" for row in rows)


def measure(run: Run, urls: list[str], threads: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        started = time.perf_counter()
        count = run(urls, threads)
        took = time.perf_counter() - started
        os.chdir("/")
    print(
        f"{run.__name__:>10}, {threads:2} threads: {took:6.2f} s, {count} of {len(urls)}",
        file=sys.stderr,
    )
    return took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delay", type=float, default=0.1)
    parser.add_argument("--threads", type=int, nargs="+", default=[8, 16, 32])
    arguments = parser.parse_args()
    root = arguments.folder.resolve()
    base = serve(root, arguments.delay)
    urls = [
        f"{base}/{quote(path.relative_to(root).as_posix())}"
        for path in sorted(root.rglob("*"))
        if path.is_file()
    ]
    slow = measure(sequential, urls, 1)
    for threads in arguments.threads:
        theirs, own = measure(pool, urls, threads), measure(ours, urls, threads)
        print(
            f"{len(urls)} files, {arguments.delay * 1000:.0f} ms a request, {threads} connections: ours is "
            f"{slow / own:.1f} x as fast as one after the other and takes {own / theirs:.2f} x the thread pool's time"
        )


if __name__ == "__main__":
    main()
