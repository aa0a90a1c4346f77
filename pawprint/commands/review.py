"""`pawprint review`: look through the pictures and keep, delete or relabel them, in a browser.

Every decision is written at once to data/decisions.csv (image, action, label, by, note; a row an image, sorted), from
where `dvc repro` applies it. Nothing is kept in the page or in this process: a reload, a second tab, a killed server or
a second server see the same file. The pictures are read from data/split.csv; the orders from what stages wrote before.
"""

import argparse
import csv
import getpass
import hmac
import io
import ipaddress
import json
import os
import re
import secrets
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageOps
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

COLUMNS = ["image", "action", "label", "by", "note"]
ACTIONS = ("keep", "delete", "relabel")
IMAGE = re.compile(r"[0-9a-f]{16}")
THUMBNAIL = 320  # pixels on the longer side: sharp at the page's 160 on a dense screen
FULL = 1600  # of the picture that is looked at closer
PAGE = Path(__file__).parent / "review_page"
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class ReviewError(Exception):
    """A request that cannot be followed; the message says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pawprint review`."""
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the project's folder")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; others than loopback need the token",
    )
    parser.add_argument(
        "--port", type=int, default=8008, help="port to listen on; 0 for any free one"
    )
    parser.add_argument("--by", default="", help="your name, written beside every decision")


def run(arguments: argparse.Namespace) -> None:
    """Serve the page until stopped from the keyboard."""
    import uvicorn

    if not (arguments.root / "data/split.csv").is_file():
        sys.exit(
            f"pawprint: {arguments.root / 'data/split.csv'} is missing: `dvc repro split` makes it"
        )
    token = "" if is_loopback(arguments.host) else secrets.token_urlsafe(16)
    app = create_app(arguments.root, token, arguments.by or user_name())
    config = uvicorn.Config(
        app, arguments.host, arguments.port, log_level="warning", access_log=False
    )
    try:
        socket = config.bind_socket()
        socket.listen(128)  # from here on the printed address answers
    except SystemExit:
        sys.exit(
            f"pawprint: {arguments.host}:{arguments.port} is not free; choose another with --port"
        )
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    query = f"/?token={token}" if token else "/"
    print(f"review: http://{host}:{socket.getsockname()[1]}{query}  (Ctrl-C stops it)", flush=True)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[socket])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def user_name() -> str:
    """Who sits at this machine, or "" where nobody knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def create_app(root: Path, token: str = "", by: str = "") -> Starlette:
    """The page over the project in `root`. token: asked for on every request when not ""; by: who decides."""
    decisions = Decisions(root / "data/decisions.csv")

    async def state(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(read_state, root, decisions))

    async def current(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(decisions.read))

    async def decide(request: Request) -> Response:
        asked = await read_body(request)
        change = await run_in_threadpool(apply, root, decisions, asked, by)
        return JSONResponse(change)

    def show(size: int) -> Callable[[Request], Awaitable[Response]]:
        async def picture(request: Request) -> Response:
            content = await run_in_threadpool(
                make_thumbnail, picture_path(root, request.path_params["image"]), size
            )
            return Response(
                content,
                media_type="image/jpeg",
                headers={"cache-control": "private, max-age=86400"},
            )

        return picture

    async def refuse(request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), status_code=400)

    routes = [
        Route("/api/state", state),
        Route("/api/decisions", current),
        Route("/api/decide", decide, methods=["POST"]),
        *(
            Route(f"/{kind}/{{image}}", show(size))
            for kind, size in (("thumbnail", THUMBNAIL), ("picture", FULL))
        ),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    guard = Middleware(Guard, token=token)
    return Starlette(routes=routes, middleware=[guard], exception_handlers={ReviewError: refuse})


class Guard:
    """Let in only who may: loopback names in Host (against DNS rebinding) or the token; changes from the page alone."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        reason = self.refusal(request)
        if reason:
            await PlainTextResponse(reason, status_code=403)(scope, receive, send)
            return
        answer_cookie = self.token and request.query_params.get("token")

        async def send_with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                extra = dict(HEADERS)
                if answer_cookie:
                    extra["set-cookie"] = (
                        f"pawprint={self.token}; HttpOnly; SameSite=Strict; Path=/"
                    )
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in extra.items()),
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def refusal(self, request: Request) -> str:
        """Why the request is refused, or ""."""
        host = request.headers.get("host", "")
        if self.token:
            given = request.query_params.get("token") or request.cookies.get("pawprint", "")
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                return "open the address with the token that `pawprint review` printed"
        elif not is_loopback(re.sub(r":\d+$", "", host).strip("[]")):
            return "this page answers only under localhost; start `pawprint review --host` to open it to others"
        if request.method not in ("GET", "HEAD"):
            origin = request.headers.get("origin")
            if request.headers.get("x-pawprint") != "review" or (
                origin and origin.split("://")[-1] != host
            ):
                return "changes are taken from the review page alone"
        return ""


class Decisions:
    """data/decisions.csv: read, and changed whole and one at a time, by however many processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.threads = threading.Lock()

    def read(self) -> dict[str, dict[str, str]]:
        """Image -> its row. An absent file is empty; the last row of an image wins."""
        if not self.path.is_file():
            return {}
        with self.path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            row["image"]: {name: row.get(name) or "" for name in COLUMNS}
            for row in rows
            if row.get("image")
        }

    def write(self, rows: dict[str, dict[str, str]]) -> None:
        """Replace the file: sorted by image, so that two people's changes merge line by line."""
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[image] for image in sorted(rows))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.partial")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other threads and processes from changing the file between our reading and writing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = self.path.with_name(f".{self.path.name}.lock")
        with self.threads, name.open("a+b") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            except ImportError:  # Windows
                import msvcrt

                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            yield

    def change(
        self, image: str, row: dict[str, str] | None, *expected: dict[str, str] | None
    ) -> dict[str, str] | None:
        """Set (or with None, remove) the decision about `image`; the row that stood before.

        expected: if given, what must stand there now, so that an undo takes back nobody else's later decision.
        """
        with self.lock():
            rows = self.read()
            before = rows.pop(image, None)
            if expected and before != expected[0]:
                raise ReviewError(f"{image} was decided anew elsewhere; nothing is undone")
            if row is not None:
                rows[image] = row
            if row != before:
                self.write(rows)
            return before


def apply(root: Path, decisions: Decisions, asked: dict, by: str) -> dict:
    """Follow one request: {image, action, label, note}; action "" takes the decision back."""
    image, action, label, note = (
        asked.get(key, "") for key in ("image", "action", "label", "note")
    )
    if not all(
        isinstance(value, str) for value in (image, action, label, note)
    ) or not IMAGE.fullmatch(image):
        raise ReviewError("image should be 16 hexadecimal digits; action, label and note text")
    pictures = picture_index(root)
    if image not in pictures:
        raise ReviewError(f"{image} is not in data/split.csv")
    if action not in ("", *ACTIONS):
        raise ReviewError(f"action is {action!r}; it should be {', '.join(ACTIONS)} or empty")
    classes = sorted({row["label"] for row in pictures.values()})
    if action == "relabel" and label not in classes:
        raise ReviewError(f"label is {label!r}; it should be one of {', '.join(classes)}")
    row = None
    if action:
        who = asked.get("by", "") if isinstance(asked.get("by", ""), str) else ""
        row = {"image": image, "action": action, "label": label if action == "relabel" else ""}
        row |= {"by": " ".join((who or by).split())[:80], "note": " ".join(note.split())[:500]}
    expected = [asked["expected"]] if "expected" in asked else []
    return {"image": image, "before": decisions.change(image, row, *expected), "now": row}


async def read_body(request: Request) -> dict:
    """The request's JSON object, at most 10 kB."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > 10_000:
            raise ReviewError("the request is too long")
    try:
        asked = json.loads(body)
    except ValueError:
        raise ReviewError("the request is not JSON") from None
    if not isinstance(asked, dict):
        raise ReviewError("the request should be a JSON object")
    return asked


def read_csv(path: Path) -> list[dict[str, str]]:
    """A table's rows; none where the file is missing."""
    try:
        return list(cached_rows(str(path), path.stat().st_mtime_ns))
    except FileNotFoundError:
        return []


@lru_cache(maxsize=32)
def cached_rows(path: str, changed: int) -> tuple[dict[str, str], ...]:
    """The rows of a table, read again only when the file has changed."""
    with open(path, encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def picture_index(root: Path) -> dict[str, dict[str, str]]:
    """Image -> its row in data/split.csv, made anew only when the table has changed: every thumbnail asks for it."""
    path = root / "data/split.csv"
    try:
        return cached_index(str(path), path.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}


@lru_cache(maxsize=4)
def cached_index(path: str, changed: int) -> dict[str, dict[str, str]]:
    return {Path(row["path"]).stem: row for row in cached_rows(path, changed)}


def picture_path(root: Path, image: str) -> Path:
    """The file of a picture that the table names; anything else is refused."""
    row = picture_index(root).get(image)
    if row is None:
        raise ReviewError(f"{image[:40]!r} is not in data/split.csv")
    return root / row["path"]


@lru_cache(maxsize=2048)
def make_thumbnail(path: Path, size: int) -> bytes:
    """A JPEG at most `size` pixels on the longer side."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (size, size))
            image = ImageOps.exif_transpose(image).convert("RGB")
            image.thumbnail((size, size))
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=82)
            return buffer.getvalue()
    except OSError as error:
        raise ReviewError(
            f"{path} cannot be read: {error}; `dvc repro verify` makes it anew"
        ) from None


def read_state(root: Path, decisions: Decisions) -> dict:
    """All the page needs: the pictures with their figures, the classes, and the decisions so far."""
    predictions = {row["path"]: row for row in read_csv(root / "data/predictions.csv")}
    errors = {row["path"]: row for row in read_csv(root / "data/label_errors.csv")}
    found = {
        row["path"]: f"{row['action']}, {row['reason']}"
        for row in read_csv(root / "data/findings.csv")
        if not row["reason"].startswith("decision")
    }
    pictures = []
    rows = read_csv(root / "data/split.csv")
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row["group"]] = sizes.get(row["group"], 0) + 1
    for row in rows:
        said, judged = predictions.get(row["path"], {}), errors.get(row["path"], {})
        pictures.append(
            {
                "image": Path(row["path"]).stem,
                "label": row["label"],
                "split": row["split"],
                "group": row["group"] if sizes[row["group"]] > 1 else "",
                "prediction": said.get("prediction", ""),
                "probability": number(said.get("probability")),
                "loss": number(said.get("loss")),
                "score": number(judged.get("score")),
                "suggestion": judged.get("suggestion", ""),
                "distance": number(judged.get("distance")),
                "finding": found.get(row["path"], ""),
            }
        )
    classes = sorted({row["label"] for row in rows})
    return {"classes": classes, "pictures": pictures, "decisions": decisions.read()}


def number(text: str | None) -> float | None:
    """A table's number, or None where the cell is empty or absent."""
    return float(text) if text else None
