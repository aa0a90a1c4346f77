"""`pawprint serve`: a page and an interface over HTTP to ask the exported model about a picture.

Nothing that a client sends is run or shown back; what is too large is refused before it is decoded. Nothing is written
to disk but what --log and --keep-images ask for.
"""

import argparse
import asyncio
import errno
import hashlib
import io
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image, UnidentifiedImageError
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pawprint.commands.drift import Log, load_reference, model_id
from pawprint.commands.exported import load
from pawprint.exporting.shipped.predict import Classifier

FORMATS = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
}
SPARE = 1_000_000_000  # bytes of disk that kept pictures leave free
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pawprint serve`."""
    parser.add_argument(
        "export", type=Path, nargs="?", default=Path("export"), help="the exported folder"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=between(int, 0, 65535), default=8000)
    parser.add_argument(
        "--max-megabytes",
        type=between(float, 0.001, 1000),
        default=10,
        help="a larger body is refused with 413",
    )
    parser.add_argument(
        "--max-megapixels",
        type=between(float, 0.001, 1000),
        default=50,
        help="a larger picture is refused with 422",
    )
    parser.add_argument(
        "--log", type=Path, help="append a line for each answer to this CSV, for `pawprint drift`"
    )
    parser.add_argument(
        "--keep-images",
        type=Path,
        metavar="DIR",
        help="keep the pictures too, in DIR/(un)sure/LABEL/",
    )
    parser.add_argument(
        "--queue",
        type=between(int, 1, 10_000),
        default=32,
        help="pictures that may wait; more are refused with 503",
    )


def between(kind: type, lowest: float, highest: float) -> Callable[[str], float]:
    """What argparse calls to read a number of a kind, from `lowest` to `highest`."""

    def number(text: str) -> float:
        if not lowest <= (value := kind(text)) <= highest:
            raise argparse.ArgumentTypeError(f"{text} should be {lowest:g} to {highest:g}")
        return value

    number.__name__ = "number"  # argparse says "invalid number value" where it is none
    return number


def run(arguments: argparse.Namespace) -> None:
    """Serve until stopped; requests under way are finished first."""
    classifier = load(
        arguments.export, threads=1
    )  # a picture a core: the pool below takes several at a time
    records: list[Record] = []
    if arguments.log:
        log = Log(arguments.log, model_id(arguments.export))
        records.append(lambda content, sha256, suffix, answer: log.add(sha256, answer))
    if arguments.keep_images:
        records.append(Keeper(arguments.keep_images, arguments.export))
    app = make_app(
        classifier,
        max_bytes=int(arguments.max_megabytes * 1e6),
        max_pixels=int(arguments.max_megapixels * 1e6),
        queue=arguments.queue,
        records=records,
        card=card.read_text(encoding="utf-8")
        if (card := arguments.export / "README.md").is_file()
        else "",
    )
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        timeout_graceful_shutdown=10,
        server_header=False,
    )


class Keeper:
    """Keeps pictures as they came, in FOLDER/unsure/LABEL/ or FOLDER/sure/LABEL/, named by their sha256.

    Unsure is none of the classes, or a probability that only one in twenty valid pictures was below.
    Exits with one line where the folder cannot be made, or a class is no name for one.
    """

    def __init__(self, folder: Path, export: Path) -> None:
        reference = load_reference(export)
        self.folder, self.sure = folder, quantile(reference["confidence"], 0.05)
        for label in reference["classes"]:
            if label in ("", ".", "..") or set(label) & set("/\\:\0"):
                sys.exit(
                    f"pawprint: --keep-images: the class {label!r} cannot be the name of a folder"
                )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            sys.exit(f"pawprint: --keep-images {folder} cannot be made: {error.strerror}")

    def __call__(self, content: bytes, sha256: str, suffix: str, answer: dict[str, Any]) -> None:
        """Keep one picture. Raises OSError where it cannot be written, or would fill the disk."""
        kind = "unsure" if answer["none"] or answer["probability"] < self.sure else "sure"
        path = self.folder / kind / answer["label"] / f"{sha256[:16]}{suffix}"
        if path.exists():
            return
        if shutil.disk_usage(self.folder).free < SPARE + len(content):
            raise OSError(errno.ENOSPC, "less than a gigabyte is free", str(self.folder))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=self.folder, prefix="."
        ) as aside:  # whole or not at all
            (Path(aside) / path.name).write_bytes(content)
            os.replace(Path(aside) / path.name, path)


def quantile(values: list[float], share: float) -> float:
    """The value at a share of a sorted list."""
    return values[int(share * (len(values) - 1))]


Record = Callable[
    [bytes, str, str, dict[str, Any]], None
]  # of a picture: bytes, sha256, suffix and answer


class Refused(Exception):
    """A request that cannot be answered: the HTTP status, and what the client may read."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def make_app(
    classifier: Classifier,
    max_bytes: int = 10_000_000,
    max_pixels: int = 50_000_000,
    queue: int = 32,
    records: Sequence[Record] = (),
    patience: float = 30,
    card: str = "",
) -> Starlette:
    """The application: /, /predict, /healthz, /model and /metrics.

    max_bytes: of a body; max_pixels: of a picture, width times height; queue: pictures under way at a time;
    patience: seconds in which a body must have come; card: the model card, Markdown;
    records: what writes answers down. Where one cannot, the client has its answer all the same, and it is counted.
    """
    registry = CollectorRegistry()
    requests = Counter(
        "pawprint_predictions", "Answers of /predict by status", ["status"], registry=registry
    )
    seconds = Histogram(
        "pawprint_prediction_seconds", "Time to answer a picture", registry=registry
    )
    unwritten = Counter(
        "pawprint_records_failed", "Answers that could not be written down", registry=registry
    )
    pool = ThreadPoolExecutor(os.cpu_count(), "predict")
    waiting = 0
    gauge = Gauge(
        "pawprint_predictions_waiting", "Pictures under way, in the queue too", registry=registry
    )
    gauge.set_function(lambda: waiting)

    def work(content: bytes) -> dict:
        answer, suffix = classify(classifier, content, max_pixels)
        if records:
            sha256 = hashlib.sha256(content).hexdigest()
        for record in records:
            try:
                record(content, sha256, suffix, answer)
            except OSError as error:
                unwritten.inc()
                logging.getLogger("uvicorn.error").error("not written down: %s", error)
        return answer

    async def predict(request: Request) -> Response:
        nonlocal waiting
        started = time.perf_counter()
        try:
            if waiting >= queue:
                raise Refused(503, "too many pictures are waiting; try again in a second")
            waiting += 1
            try:
                content = await asyncio.wait_for(read_picture(request, max_bytes), patience)
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(pool, work, content)
            except asyncio.TimeoutError:  # not TimeoutError before Python 3.11
                raise Refused(408, f"the body did not come within {patience:g} seconds") from None
            finally:
                waiting -= 1
        except Refused as why:
            requests.labels(why.status).inc()
            extra = {"retry-after": "1"} if why.status == 503 else {}
            return JSONResponse({"error": why.message}, why.status, extra)
        requests.labels(200).inc()
        seconds.observe(time.perf_counter() - started)
        return JSONResponse(answer)

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def model(request: Request) -> Response:
        return JSONResponse({**classifier.config, "card": card})

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    page = StaticFiles(directory=Path(__file__).parent / "serve_page", html=True)
    routes = [
        Route("/predict", predict, methods=["POST"]),
        Route("/healthz", healthz),
        Route("/model", model),
        Route("/metrics", metrics),
        Mount("/", page),
    ]
    handlers = {HTTPException: refuse_politely, Exception: fail_politely}
    return Starlette(
        routes=routes, middleware=[Middleware(SecurityHeaders)], exception_handlers=handlers
    )


async def read_picture(request: Request, max_bytes: int) -> bytes:
    """The picture in a body: the body itself, or the first file of a multipart form.

    Raises Refused 413 as soon as more than `max_bytes` have come, 400 for a form without a file.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise Refused(413, f"the body is larger than {max_bytes / 1e6:g} MB")
    except ClientDisconnect:
        raise Refused(400, "the connection was closed before the body was complete") from None
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return bytes(body)

    async def stream():
        yield bytes(body)
        yield b""

    try:
        form = await MultiPartParser(request.headers, stream(), max_files=1, max_fields=8).parse()
    except (MultiPartException, KeyError, UnicodeDecodeError, ValueError):
        raise Refused(400, "the form cannot be read") from None
    for value in form.values():
        if not isinstance(value, str):
            return await value.read()
    raise Refused(400, "the form holds no file")


def classify(classifier: Classifier, content: bytes, max_pixels: int) -> tuple[dict, str]:
    """The model's answer about a picture, and the suffix of its format.

    Raises Refused 415 or 422 for what is no picture, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.MAX_IMAGE_PIXELS = (
                None  # the limit below is ours, and speaks before anything is decoded
            )
            with Image.open(io.BytesIO(content), formats=list(FORMATS)) as image:
                if image.width * image.height > max_pixels:
                    raise Refused(
                        422,
                        f"{image.width} x {image.height} are more than {max_pixels / 1e6:g} megapixels",
                    )
                return classifier(image), FORMATS.get(
                    image.format, ".jpg"
                )  # a JPEG with more inside is an MPO
    except Refused:
        raise
    except UnidentifiedImageError:
        raise Refused(415, f"not a picture; send one of {', '.join(FORMATS)}") from None
    except Exception:  # decoders raise many kinds on a broken file; the client need not see which
        raise Refused(422, "the picture is broken and cannot be decoded") from None


async def refuse_politely(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def fail_politely(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "internal error"}, 500)


class SecurityHeaders:
    """ASGI middleware that adds HEADERS to every response."""

    def __init__(self, app) -> None:
        self.app = app
        self.headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope, receive, send) -> None:
        async def with_headers(message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self.headers]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)
