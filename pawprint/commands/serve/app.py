"""The application of `pawprint serve`: /, /predict, /preview, /healthz, /model and /metrics.

If the model explains itself, answers say why, and /nearest/NAME shows training pictures.
"""

import asyncio
import hashlib
import io
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
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
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pawprint.commands.nearest import thumbnail
from pawprint.commands.serve.bodies import Bodies, picture_in
from pawprint.commands.web import PAGES, Access, Guard, RequestRefused, answer_refused, file_routes
from pawprint.compute.cores import cores
from pawprint.exporting.shipped import PAGE
from pawprint.exporting.shipped.predict import Classifier
from pawprint.pictures.formats import FORMATS, SUFFIXES_OF
from pawprint.pictures.opening import Unusable, open_picture

T = TypeVar("T")
PREVIEW = 640  # pixels on the longer side: the page shows half as many, on a dense screen

Answer = dict[str, Any]  # as Classifier.classify gives it
Record = Callable[[bytes, str, str, Answer], None]  # of a picture: bytes, sha256, suffix, answer


@dataclass(frozen=True)
class Limits:
    """What is refused: content in bytes of a body, pixels of a picture, a queue of pictures.

    patience: seconds in which a body must have come.
    """

    content: int = 10_000_000
    pixels: int = 50_000_000
    queue: int = 32
    patience: float = 30


def make_app(
    classifier: Classifier,
    limits: Limits | None = None,
    access: Access | None = None,
    records: Sequence[Record] = (),
    about: Mapping[str, object] | None = None,
    known: Mapping[str, Path] | None = None,
) -> ASGIApp:
    """Return the application.

    records: what writes answers down; if one cannot, the client has its answer all the same, and
    it is counted. about: what /model says beside the model's own configuration. known: files of the
    training pictures that are at hand, by name.
    """
    limits = limits or Limits()
    service = Service(classifier, limits, records, known or {})
    said = {**classifier.config, "max_bytes": limits.content, "thumbnails": bool(known)}
    said |= about or {}
    page = {"/": PAGE / "index.html", "/ask.js": PAGES / "ask.js"}
    page |= {f"/{name}": PAGE / name for name in ("page.css", "page.js")}

    async def model(request: Request) -> Response:
        return JSONResponse(said)

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    routes = [
        Route("/predict", service.predict, methods=["POST"]),
        Route("/preview", service.preview, methods=["POST"]),
        Route("/metrics", service.metrics),
        Route("/healthz", healthz),
        Route("/model", model),
        Route("/nearest/{name}", service.nearest),
        *file_routes(page),
    ]
    handlers: dict[Any, Any] = {
        HTTPException: answer_http_error,
        RequestRefused: answer_refused,
        Exception: answer_failure,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), access or Access())


class Service:
    """Asks the model about pictures, several at a time, and counts what it does."""

    def __init__(
        self,
        classifier: Classifier,
        limits: Limits,
        records: Sequence[Record],
        known: Mapping[str, Path],
    ) -> None:
        self.classifier, self.limits, self.records = classifier, limits, records
        self.known = known
        self.bodies = Bodies(limits.queue * limits.content)
        self.pool = ThreadPoolExecutor(cores(), "predict")
        self.waiting = 0  # pictures in the pool and before it
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "pawprint_predictions", "Answers of /predict by status", ["status"], registry=registry
        )
        self.seconds = Histogram(
            "pawprint_prediction_seconds", "Time to answer a picture", registry=registry
        )
        self.unwritten = Counter(
            "pawprint_records_failed", "Answers that could not be written down", registry=registry
        )
        gauge = Gauge(
            "pawprint_predictions_waiting", "Pictures under way, from body on", registry=registry
        )
        gauge.set_function(lambda: self.waiting + len(self.bodies.sizes))

    async def metrics(self, request: Request) -> Response:
        """Answer with the counts, for Prometheus."""
        content = generate_latest(self.registry)
        return Response(content, headers={"content-type": CONTENT_TYPE_LATEST})

    async def predict(self, request: Request) -> Response:
        """Answer what the model sees in the picture that a request holds."""
        started = time.perf_counter()
        try:
            answer = await self.answer(request)
        except RequestRefused as error:
            self.requests.labels(error.status).inc()
            return error.response()
        self.requests.labels(200).inc()
        self.seconds.observe(time.perf_counter() - started)
        return JSONResponse(answer)

    async def preview(self, request: Request) -> Response:
        """Answer with a small JPEG of the picture, for a browser that cannot show its format."""
        content = await self.work(request, self.shrink)
        return Response(content, media_type="image/jpeg")

    async def nearest(self, request: Request) -> Response:
        """Answer with the thumbnail of a training picture."""
        path = self.known.get(request.path_params["name"])
        if path is None:
            raise RequestRefused(404, "there is no such training picture")
        loop = asyncio.get_running_loop()
        try:
            content = await loop.run_in_executor(self.pool, thumbnail, path)
        except Unusable:
            raise RequestRefused(404, "this training picture cannot be read") from None
        return Response(content, media_type="image/jpeg")

    async def answer(self, request: Request) -> Answer:
        """Return the model's answer. Raises RequestRefused."""
        return await self.work(request, self.ask)

    async def work(self, request: Request, do: Callable[[bytes], T]) -> T:
        """Return what `do` makes of the picture in a request, in turn. Raises RequestRefused."""
        self.refuse_if_full()  # before a body comes in vain
        body = await self.bodies.read(request, self.limits.content, self.limits.patience)
        content = await picture_in(request, body)
        self.refuse_if_full()
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, do, content)
        finally:
            self.waiting -= 1

    def refuse_if_full(self) -> None:
        """Raise RequestRefused (503) if the queue is full. A body on its way is not in it."""
        if self.waiting >= self.limits.queue:
            raise RequestRefused(503, "too many pictures are waiting; try again in a second")

    def shrink(self, content: bytes) -> bytes:
        """Return a picture as a JPEG of PREVIEW pixels at most. Raises RequestRefused."""
        own, pixels = self.classifier.how, self.limits.pixels
        how = replace(own, resize="shrink", max_size=PREVIEW, min_size=1, max_pixels=pixels)
        try:
            image = open_picture(io.BytesIO(content), how)
        except Unusable as why:
            raise refusal(why, pixels) from None
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=82)
        return buffer.getvalue()

    def ask(self, content: bytes) -> Answer:
        """Return the model's answer about a picture, and write it down."""
        answer, suffix = classify(self.classifier, content, self.limits.pixels)
        sha256 = hashlib.sha256(content).hexdigest() if self.records else ""
        for record in self.records:
            try:
                record(content, sha256, suffix, answer)
            except OSError as error:
                self.unwritten.inc()
                logging.getLogger("uvicorn.error").error("not written down: %s", error)
        return answer


def classify(classifier: Classifier, content: bytes, most_pixels: int) -> tuple[Answer, str]:
    """Return the model's answer about a picture, and the suffix of its format.

    Raises RequestRefused; see `refusal`.
    """
    try:
        prepared = classifier.prepare(io.BytesIO(content), most_pixels)
    except Unusable as why:
        raise refusal(why, most_pixels) from None
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        # a JPEG with several pictures inside is an MPO
        suffix, *_ = SUFFIXES_OF.get(image.format or "", (".jpg",))
    return classifier.classify([prepared], explain=True)[0], suffix


def refusal(why: Unusable, most_pixels: int) -> RequestRefused:
    """Return the answer to a picture that cannot be used.

    415 if it is not a picture, or its decoder is not installed; 422 if it is too large or broken.
    """
    if why.reason in ("not a picture", "empty"):
        return RequestRefused(415, f"not a picture; send one of {', '.join(FORMATS)}")
    if why.reason == "unreadable":
        return RequestRefused(415, str(why))
    if why.reason == "too large":
        return RequestRefused(422, f"the picture has more than {most_pixels / 1e6:g} megapixels")
    return RequestRefused(422, "the picture is broken and cannot be decoded")


async def answer_http_error(request: Request, error: HTTPException) -> Response:
    """Answer what Starlette refuses, such as an unknown path, as JSON."""
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def answer_failure(request: Request, error: Exception) -> Response:
    """Answer an error of our own; its traceback goes to stderr."""
    return JSONResponse({"error": "internal error"}, 500)
