"""What the tests of gather need: a web server that behaves as told, and a project that uses it."""

import csv
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pawprint.params import StageError, check
from pawprint.sources import Found
from pawprint.sources.folder import FolderOptions, find_pictures
from stages import gather
from tests.support.serving import Serving
from tests.support.warm import run_stages, warm_python

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = ROOT.parent / "shared" / "data"
QUICK = {
    "threads": 8,
    "per_host": 8,
    "connect_timeout": 1.0,
    "read_timeout": 1.0,
    "total_timeout": 2.0,
    "max_bytes": 200_000,
    "retries": 1,
    "max_wait": 1.5,
    "redirects": 3,
}


def picture(number: int, size: int = 64, form: str = "JPEG") -> bytes:
    """A small picture that no other number gives."""
    noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((size, size)).save(buffer, form)
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        world: Server = self.server.world  # type: ignore[attr-defined]
        with world.lock:
            world.asked[self.path] += 1
            world.order.append(self.path)
            world.agents.add(self.headers["User-Agent"])
            world.busy += 1
            world.most_busy = max(world.most_busy, world.busy)
        try:
            answer = world.answers.get(self.path.partition("?")[0], world.otherwise)
            if isinstance(answer, bytes):
                self.reply(200, answer)
            else:
                answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with world.lock:
                world.busy -= 1
                if self.close_connection is False:
                    world.finished[self.path] += 1

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(Serving):
    """Answers with `answers[path]`: bytes, or a function of the handler. Counts requests."""

    def __init__(self, answers: dict[str, bytes | Callable[[Handler], None]]) -> None:
        self.answers = answers
        self.otherwise: Callable[[Handler], None] = lambda handler: handler.reply(
            404, b"no such file"
        )
        self.asked: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.order: list[str] = []
        self.agents: set[str] = set()
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        super().__init__(Handler)

    def __exit__(self, *about: object) -> None:
        self.stopping.set()
        super().__exit__(*about)

    def forget(self) -> None:
        self.asked.clear()
        self.finished.clear()
        self.order.clear()


class World:
    """A project in a temporary folder whose `gather` and `verify` can be run as DVC runs them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("stages", "data/sources"):
            shutil.copytree(
                ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__", "vision")
            )
        shutil.copyfile(ROOT / "params.yaml", path / "params.yaml")
        (path / "data/own").mkdir()

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def params(self, section: str = "gather", **values: object) -> None:
        yaml = YAML()
        content = yaml.load(self.path / "params.yaml")
        content[section].update(values)
        yaml.dump(content, self.path / "params.yaml")

    def use(self, source: dict[str, object], **gather: object) -> None:
        """Gather from a source of this description, quickly and from 127.0.0.1 too."""
        YAML().dump(source, self.path / "data/sources/tested.yaml")
        self.params(**{"source": "tested", "allow_private": True, "download": dict(QUICK)} | gather)

    def start(self, stage: str = "gather", **more: object) -> subprocess.Popen[str]:
        command = [warm_python() / "python", "-m", f"stages.{stage}"]
        return subprocess.Popen(command, cwd=self.path, stdout=-1, stderr=-1, text=True, **more)  # type: ignore[call-overload]

    def run(self, stage: str = "gather") -> None:
        done = run_stages(self.path, [stage])
        assert done.returncode == 0, done.stderr

    def fail(self, stage: str = "gather") -> str:
        """Run a stage that must end with exit code 1 and one line on stderr; that line."""
        done = run_stages(self.path, [stage])
        errors = done.stderr
        lines = [
            line
            for line in errors.replace("\r", "\n").splitlines()
            if line.strip() and "it/s" not in line
        ]
        lines = [line for line in lines if "%|" not in line and "/s]" not in line]
        assert done.returncode == 1, errors
        assert len(lines) == 1, errors
        return lines[0]

    def run_here(self) -> None:
        """Run gather in this process, which is quick."""
        before = Path.cwd()
        os.chdir(self.path)
        try:
            gather.main()
        finally:
            os.chdir(before)

    def refuse(self) -> str:
        """Run gather in this process. It must end in a StageError; its message."""
        with pytest.raises(StageError) as caught:
            self.run_here()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def table(self, name: str = "gathered") -> list[dict[str, str]]:
        with (self.path / f"data/{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def metrics(self, name: str = "gather") -> dict:
        return json.loads((self.path / f"metrics/{name}.json").read_text())

    def files(self) -> dict[str, bytes]:
        """All that a gathering leaves behind."""
        raw = {
            path.relative_to(self.path).as_posix(): path
            for path in (self.path / "data/raw").rglob("*")
        }
        raw["data/gathered.csv"] = self.path / "data/gathered.csv"
        raw["metrics/gather.json"] = self.path / "metrics/gather.json"
        return {name: path.read_bytes() for name, path in sorted(raw.items()) if path.is_file()}


def stall(handler: Handler) -> None:
    """Promise a body and never send it."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.close_connection = True
    handler.server.world.stopping.wait(30)  # type: ignore[attr-defined]


def drip(handler: Handler) -> None:
    """A byte now and then: no read times out, but the whole must."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.close_connection = True
    while not handler.server.world.stopping.wait(0.2):  # type: ignore[attr-defined]
        handler.wfile.write(b"\xff")


def drip_headers(handler: Handler) -> None:
    """The same with headers."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.server.world.stopping.wait(0.2):  # type: ignore[attr-defined]
        handler.wfile.write(b"x")


def reset(handler: Handler) -> None:
    """Hang up without a word."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def redirect(handler: Handler, to: str, status: int = 302) -> None:
    """Say that the file is elsewhere."""
    handler.reply(status, b"", Location=to)


def tar(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for info in extra:
            file.addfile(info, io.BytesIO(bytes(info.size)) if info.isfile() else None)
    return path


def fill(root: Path, *names: str) -> Path:
    """Write a picture of its own under each name."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return root


def from_folder(root: Path, **options: object) -> list[Found]:
    """What the source `folder` finds there, with these lines in its yaml."""
    checked = check({"kind": "folder", **options}, FolderOptions, "", Path("x.yaml"))
    return list(find_pictures(checked, root))


def offered(items: list[Found]) -> list[tuple[str, ...]]:
    """The name, label, split and group of everything found."""
    return [(item.url, item.label, item.split, item.group) for item in items]


class Engine:
    """Speaks the part of DuckDuckGo's image search that ddgs needs: a token, then results."""

    def __init__(self, results: dict[str, int], refuse: int = 0, base: str = "") -> None:
        self.results, self.refuse, self.base, self.asked = results, refuse, base, []
        self.lock = threading.Lock()

    def token(self, handler: Handler) -> None:
        handler.reply(200, b'<script>vqd="4-123456789"</script>')

    def pages(self, handler: Handler) -> None:
        query = {key: values[0] for key, values in parse_qs(urlsplit(handler.path).query).items()}
        with self.lock:
            self.asked.append(query)
            self.refuse -= 1
            refused = self.refuse >= 0
        if refused or query.get("vqd") != "4-123456789":
            handler.reply(429, b"slow down")
            return
        start, total = int(query.get("s", 0)), self.results.get(query["q"], 0)
        name = query["q"].replace(" ", "-")
        items = [
            self.item(f"{self.base}/{name}/{i}.jpg", i)
            for i in range(start, min(start + 100, total))
        ]
        handler.reply(200, json.dumps({"results": items}).encode(), Content_Type="application/json")

    def item(self, url: str, number: int) -> dict[str, object]:
        words = {"title": f"picture {number}", "thumbnail": url, "url": url, "source": "test"}
        return {"image": url, "height": 64, "width": 64} | words
