"""Measure `pawprint review` on tables and features of many pictures that are made up for it.

    python -m benchmarks.review --pictures 100000

It makes the tables of a project in a temporary folder, starts the server, and says how long the
first page, other pages, similar pictures, the map and a decision about 500 pictures take, and the
most memory that the server had. Linux only, for the memory.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np

from benchmarks.project import ROOT
from pawprint.tables import write_bytes
from pawprint.training.features import Rows, hash_rows, write_features

CLASSES = ("ant", "bee", "cat")
SPLITS = ("train", "train", "train", "valid", "test")
SCORES = "dark_score,light_score,blurry_score,low_information_score"
WIDTH = 1280  # features of a picture
HEADER = {"x-pawprint": "review"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=100_000)
    count = parser.parse_args().pictures
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        make_project(root, count)
        command = [sys.executable, "-m", "pawprint", "review", str(root), "--port", "0"]
        started = time.perf_counter()
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout
                found = re.search(r"http://\S+:\d+", server.stdout.readline())
                assert found, "the server did not start"
                say("start of the server", started)
                ask(found[0])
                status = Path(f"/proc/{server.pid}/status").read_text()
                peak = re.search(r"VmHWM:\s+(\d+)", status)
                assert peak
                print(f"{'most memory':32} {int(peak[1]) / 1024:6.0f} MB")
            finally:
                server.kill()


def ask(url: str) -> None:
    """Ask a server what the page asks, and say how long each answer takes."""
    with httpx.Client(base_url=url, timeout=600, headers=HEADER) as client:

        def get(what: str, path: str, **query: str) -> httpx.Response:
            started = time.perf_counter()
            answer = client.get(path, params=query).raise_for_status()
            say(f"{what}, {len(answer.content) / 1000:,.0f} kB", started)
            return answer

        get("the tables are read", "/api/state")
        first = get("the first page", "/api/pictures", order="loss").json()["pictures"]
        get("a page far down, of one class", "/api/pictures", label="bee", offset="20000")
        get("likely wrong labels", "/api/pictures", order="score")
        get("what comes next", "/api/status")
        get("similar pictures", "/api/similar", image=first[0]["image"])
        get("the map", "/api/map")
        page = client.get("/api/pictures", params={"limit": "500"}).json()["pictures"]
        body = {"images": [each["image"] for each in page], "action": "keep"}
        started = time.perf_counter()
        client.post("/api/decide", json=body).raise_for_status()
        say("500 decisions at once", started)


def say(what: str, started: float) -> None:
    """Print how long something took."""
    print(f"{what:32} {time.perf_counter() - started:6.2f} s", flush=True)


def make_project(root: Path, count: int) -> None:
    """Write the tables of a project after its first run, and its features; no picture is there."""
    random = np.random.default_rng(0)
    names = [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}" for i in range(count)]
    paths = [f"data/images/{CLASSES[i % 3]}/{name}.jpg" for i, name in enumerate(names)]
    cells = random.random((count, 4)).round(6).tolist()
    lines: dict[str, list[str]] = {
        "split": ["path,label,group,split"],
        "predictions": ["path,prediction,probability,loss"],
        "label_errors": ["path,suggestion,score,distance"],
        "properties": [f"path,faults,severity,{SCORES}"],
        "images": ["path"],
    }
    for i, (path, row) in enumerate(zip(paths, cells, strict=True)):
        label, other = CLASSES[i % 3], CLASSES[i * 7 % 3]
        lines["split"].append(f"{path},{label},{names[i - i % 50 % 2]},{SPLITS[i % 5]}")
        lines["images"].append(path)
        scores = ",".join(map(str, row))
        lines["properties"].append(f"{path},{'dark' if i % 40 == 0 else ''},{row[1]},{scores}")
        if SPLITS[i % 5] != "test":
            lines["predictions"].append(f"{path},{other},{row[0]},{row[1]}")
            lines["label_errors"].append(f"{path},{other},{row[2]},{row[3]}")
    for table, rows in lines.items():
        write_bytes(root / f"data/{table}.csv", "\n".join([*rows, ""]).encode())

    def batches() -> Iterator[Rows]:
        for start in range(0, count, 5000):
            n = min(5000, count - start)
            seen = random.standard_normal((n, WIDTH), dtype=np.float32)
            seen[np.arange(n), np.arange(start, start + n) % 3] += 8
            nothing = np.zeros((n, 1), np.float32)
            yield {"features": seen, "mirrored": nothing, "maps": nothing}

    os.chdir(root)
    write_features(count, batches(), {"rows": hash_rows(paths)})


if __name__ == "__main__":
    main()
