"""The interface of the review page: what it reads, and how it decides."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pawprint.commands.review.decisions import Decision, Decisions
from pawprint.commands.review.pictures import (
    FULL,
    Version,
    cached_thumbnail,
    make_jpeg,
    picture_file,
    pictures_by_name,
    read_correlations,
    read_pictures,
    read_split,
    version_of,
)
from pawprint.commands.web import Access, Guard, RequestRefused, answer_refused, page_routes
from pawprint.params import StageError
from pawprint.state import ACTIONS, suggest_class

MOST_BYTES = 20_000  # of a request
PAGE = "review"  # what the page writes into the header x-pawprint


def create_app(root: Path, token: str = "", by: str = "") -> ASGIApp:
    """Return the application over the project in `root`.

    token: asked for on every request unless ""; by: who decides.
    """
    api = Api(root, by)
    routes = [
        Route("/api/state", api.state),
        Route("/api/decisions", api.current),
        Route("/api/decide", api.decide, methods=["POST"]),
        Route("/thumbnail/{image}", api.thumbnail),
        Route("/picture/{image}", api.picture),
        *page_routes("review"),
    ]
    handlers: dict[Any, Any] = {RequestRefused: answer_refused, StageError: answer_unreadable}
    app = Starlette(routes=routes, exception_handlers=handlers)
    hint = "open it as localhost, or start it with --host to open it to others"
    return Guard(app, Access(token=token, changes=PAGE, hint=hint))


async def answer_unreadable(request: Request, error: Exception) -> Response:
    """Answer that a file of the project is not understood, which the page shows."""
    return JSONResponse({"error": str(error)}, 409)


class Api:
    """The endpoints over one project."""

    def __init__(self, root: Path, by: str) -> None:
        self.root, self.by = root, by
        self.decisions = Decisions(root / "data/decisions.csv")

    async def state(self, request: Request) -> Response:
        """Answer with classes, pictures and decisions: all that the page needs."""
        return JSONResponse(await run_in_threadpool(self.read_state))

    def read_state(self) -> dict[str, object]:
        """Return what `state` answers with."""
        return {
            "classes": self.classes(),
            "pictures": read_pictures(self.root),
            "correlations": read_correlations(self.root),
            "decisions": self.decisions.read(),
        }

    def classes(self) -> list[str]:
        """Return the labels of the project's pictures, sorted."""
        return sorted({row["label"] for row in read_split(self.root)})

    async def current(self, request: Request) -> Response:
        """Answer with the decisions alone."""
        return JSONResponse(await run_in_threadpool(self.decisions.read))

    async def decide(self, request: Request) -> Response:
        """Write one decision; answer with the picture's decision before and now."""
        asked = await read_json_body(request)
        return JSONResponse(await run_in_threadpool(self.apply, asked))

    def apply(self, asked: dict[str, Any]) -> dict[str, object]:
        """Follow one request: {image, action, label, note}; action "" takes the decision back.

        It may also hold by (who decides), cells (of columns that others added) and expected (the
        decision that must hold now). Raises RequestRefused, and StageError if decisions.csv is not
        understood.
        """
        image, action, label, note, by = (
            text_of(asked, name) for name in ("image", "action", "label", "note", "by")
        )
        if image not in pictures_by_name(self.root):
            raise RequestRefused(400, "this picture is not in data/split.csv")
        if action not in ("", *ACTIONS):
            raise RequestRefused(400, f"action should be {', '.join(ACTIONS)} or empty")
        if action == "relabel" and label not in (classes := self.classes()):
            raise RequestRefused(400, f"label is {label!r}; {suggest_class(label, classes)}")
        expected = [asked["expected"]] if "expected" in asked else []
        if any(each is not None and not is_decision(each) for each in expected):
            raise RequestRefused(400, "expected should be a decision or null")
        cells = asked.get("cells", {})
        if not is_decision(cells):
            raise RequestRefused(400, "cells should be text by column")

        decision: Decision | None = None
        if action:
            decision = {
                **cells,
                "image": image,
                "action": action,
                "label": label if action == "relabel" else "",
                "by": " ".join((by or self.by).split()),
                "note": " ".join(note.split()),
            }
        before, now = self.decisions.change(image, decision, *expected)
        return {"image": image, "before": before, "now": now}

    async def thumbnail(self, request: Request) -> Response:
        """Answer with a small JPEG of a picture."""
        return await self.show(request, cached_thumbnail)

    async def picture(self, request: Request) -> Response:
        """Answer with a large JPEG of a picture."""

        def make(path: Path, version: Version) -> bytes:
            return make_jpeg(path, FULL)

        return await self.show(request, make)

    async def show(self, request: Request, make: Callable[[Path, Version], bytes]) -> Response:
        """Answer with a JPEG, or 304 if the browser has the one of this version of the file."""
        path = picture_file(self.root, request.path_params["image"])
        try:
            version = version_of(path)
        except OSError:
            raise RequestRefused(404, f"{path} is missing; `dvc checkout` restores it") from None
        tag = '"' + "-".join(map(str, version)) + '"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag})
        content = await run_in_threadpool(make, path, version)
        return Response(content, media_type="image/jpeg", headers={"etag": tag})


async def read_json_body(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request. Raises RequestRefused (400, 413)."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise RequestRefused(413, "the request is too long")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestRefused(400, "the request is not JSON") from None
    if not isinstance(asked, dict):
        raise RequestRefused(400, "the request should be a JSON object")
    return asked


def text_of(asked: dict[str, Any], name: str) -> str:
    """Return a text in a request; "" if it is absent."""
    value = asked.get(name, "")
    if not is_text(value):
        raise RequestRefused(400, f"{name} should be text")
    return value


def is_text(value: object) -> bool:
    """Return whether a value is text that a CSV file can hold: no NUL, no half of a surrogate."""
    return isinstance(value, str) and not re.search("[\0\ud800-\udfff]", value)


def is_decision(value: object) -> bool:
    """Return whether a value is text by column."""
    return isinstance(value, dict) and all(is_text(item) for pair in value.items() for item in pair)
