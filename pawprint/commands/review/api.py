"""The interface of the review page: what it reads, and how it decides.

Pictures come in pages, never all at once: a filter and an offset name a page, or the names of its
pictures do.
"""

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

from pawprint.commands.review.catalogue import (
    MOST,
    Catalogue,
    Filter,
    Version,
    pack_map,
    version_of,
)
from pawprint.commands.review.decisions import Decision, known_cells
from pawprint.commands.review.pictures import FULL, cached_thumbnail, make_jpeg
from pawprint.commands.review.shelf import Maps, Shelf, state_of
from pawprint.commands.web import Access, Guard, RequestRefused, answer_refused, page_routes
from pawprint.params import StageError
from pawprint.state import ACTIONS, suggest_class
from pawprint.tables import SPLITS

MOST_BYTES = 8_000_000  # of a request: MOST pictures, each with what was decided before
PAGE = "review"  # what the page writes into the header x-pawprint
LIMIT = 500  # pictures in an answer
SIMILAR = 60  # pictures like the chosen one


def create_app(shelf: Shelf, token: str = "", by: str = "") -> ASGIApp:
    """Return the application over some pictures.

    token: asked for on every request unless ""; by: who decides.
    """
    api = Api(shelf, by)
    routes = [
        Route("/api/state", api.answer(api.read_state)),
        Route("/api/status", api.answer(api.read_status)),
        Route("/api/pictures", api.answer(api.read_page)),
        Route("/api/names", api.answer(api.read_names)),
        Route("/api/similar", api.answer(api.read_similar)),
        Route("/api/map", api.map),
        Route("/api/named", api.answer_posted(api.read_named), methods=["POST"]),
        Route("/api/decide", api.answer_posted(api.decide), methods=["POST"]),
        Route("/api/undo", api.answer_posted(api.undo), methods=["POST"]),
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


Asked = dict[str, Any]
Endpoint = Callable[[Request], Any]


class Api:
    """The endpoints over one shelf of pictures."""

    def __init__(self, shelf: Shelf, by: str) -> None:
        self.shelf, self.by = shelf, by
        self.decisions, self.maps = shelf.decisions, Maps(shelf)

    def answer(self, read: Callable[[dict[str, str]], Asked]) -> Endpoint:
        """Return an endpoint that answers a query with JSON."""

        async def endpoint(request: Request) -> Response:
            return JSONResponse(await run_in_threadpool(read, dict(request.query_params)))

        return endpoint

    def answer_posted(self, read: Callable[[Asked], Asked]) -> Endpoint:
        """Return an endpoint that answers a JSON object with JSON."""

        async def endpoint(request: Request) -> Response:
            asked = await read_json_body(request)
            return JSONResponse(await run_in_threadpool(read, asked))

        return endpoint

    # --- what the page reads ---

    def read_state(self, query: dict[str, str]) -> Asked:
        """Return what the page needs once: classes, splits, orders, and the status."""
        _, catalogue = self.shelf.read()
        try:
            self.shelf.features(catalogue)
            problem = ""
        except StageError as error:
            problem = str(error)
        here = set(catalogue.splits)
        known = [split for split in SPLITS if split in here]
        return {
            "title": self.shelf.title,
            "classes": self.shelf.classes(),
            "splits": known,
            "orders": [[name, order.title] for name, order in catalogue.orders.items()],
            "correlations": catalogue.correlations,
            "maps": self.maps.methods(),
            "no_features": problem,
            **state_of(self.shelf),
        }

    def read_status(self, query: dict[str, str]) -> Asked:
        """Return what may change while the page is open; see `shelf.state_of`."""
        return state_of(self.shelf)

    def read_page(self, query: dict[str, str]) -> Asked:
        """Return a page of pictures.

        query: label, split, order and show, as in Filter; offset and limit; and keep, the name of a
        picture that the page should hold if the filter lets it through.
        Answer: total; place, of the picture to keep, or null; offset; pictures.
        """
        _, catalogue = self.shelf.read()
        decisions = self.decisions.read()
        wanted = filter_of(query)
        rows = catalogue.select(wanted, decisions)
        limit = number_of(query, "limit", 1, LIMIT, 100)
        offset = number_of(query, "offset", 0, max(len(rows), 0), 0)
        place = None
        if (kept := catalogue.rows.get(query.get("keep", ""))) is not None:
            found = (rows == kept).nonzero()[0]
            if len(found):
                place = int(found[0])
                offset = place - place % limit
        return {
            "total": len(rows),
            "place": place,
            "offset": offset,
            "pictures": [
                catalogue.describe(row, wanted.order, decisions.get(catalogue.names[row]))
                for row in rows[offset : offset + limit].tolist()
            ],
        }

    def read_names(self, query: dict[str, str]) -> Asked:
        """Return the names of all pictures that a filter lets through: {images}.

        first, last: only those from one place to another. Raises RequestRefused (400) if they are
        more than MOST.
        """
        _, catalogue = self.shelf.read()
        rows = catalogue.select(filter_of(query), self.decisions.read())
        first = number_of(query, "first", 0, len(rows), 0)
        rows = rows[first : number_of(query, "last", 0, len(rows), len(rows))]
        if len(rows) > MOST:
            raise RequestRefused(
                400, f"{len(rows):,} pictures are more than {MOST:,}; choose a class or an order"
            )
        return {"images": [catalogue.names[row] for row in rows.tolist()]}

    def read_named(self, asked: Asked) -> Asked:
        """Return some pictures by their names: {images, order} gives {pictures}."""
        _, catalogue = self.shelf.read()
        decisions = self.decisions.read()
        rows = self.rows_of(asked, catalogue, LIMIT)
        order = text_of(asked, "order")
        return {
            "pictures": [
                catalogue.describe(row, order, decisions.get(catalogue.names[row])) for row in rows
            ]
        }

    def read_similar(self, query: dict[str, str]) -> Asked:
        """Return the names of the pictures that look most like one: {images, distances}."""
        _, catalogue = self.shelf.read()
        image = query.get("image", "")
        if image not in catalogue.rows:
            raise RequestRefused(400, f"this picture is not in {self.shelf.table}")
        images, distances = self.shelf.find_similar(image, SIMILAR, catalogue)
        return {"images": images, "distances": distances}

    async def map(self, request: Request) -> Response:
        """Answer with the map of all pictures, as `pack_map` writes it."""

        def draw() -> tuple[bytes, int]:
            _, catalogue = self.shelf.read()
            places, rows = self.maps.draw(request.query_params.get("method", "pca"), catalogue)
            return pack_map(catalogue, places, rows), len(rows)

        content, count = await run_in_threadpool(draw)
        headers = {"x-pictures": str(count)}
        return Response(content, media_type="application/octet-stream", headers=headers)

    # --- what the page changes ---

    def rows_of(self, asked: Asked, catalogue: Catalogue, most: int = MOST) -> list[int]:
        """Return the rows of the pictures that a request names, as `images` or one as `image`."""
        images = asked.get("images", [asked.get("image")])
        if not isinstance(images, list) or not all(map(is_text, images)):
            raise RequestRefused(400, "images should be a list of names")
        if len(images) > most:
            raise RequestRefused(400, f"at most {most:,} pictures at once, not {len(images):,}")
        if not all(image in catalogue.rows for image in images):
            raise RequestRefused(400, f"this picture is not in {self.shelf.table}")
        return [catalogue.rows[image] for image in dict.fromkeys(images)]

    def decide(self, asked: Asked) -> Asked:
        """Follow one request: {images, action, label, note}; action "" takes decisions back.

        It may also hold by (who decides). Answer: images; before, the decisions that there were, by
        name; now, by name; and the status. Raises RequestRefused, and StageError if decisions.csv
        is not understood.
        """
        _, catalogue = self.shelf.read()
        action, label, note, by = (
            text_of(asked, name) for name in ("action", "label", "note", "by")
        )
        rows = self.rows_of(asked, catalogue)
        if action not in ("", *ACTIONS):
            raise RequestRefused(400, f"action should be {', '.join(ACTIONS)} or empty")
        if action == "relabel" and label not in (classes := self.shelf.classes()):
            raise RequestRefused(400, f"label is {label!r}; {suggest_class(label, classes)}")

        def new(image: str, old: Decision | None) -> Decision | None:
            if not action:
                return None
            kept = self.shelf.label_of_kept(catalogue.rows[image], catalogue)
            return {
                "image": image,
                "action": action,
                "label": label if action == "relabel" else kept if action == "keep" else "",
                "by": " ".join((by or self.by).split()),
                "note": " ".join(note.split()),
            }

        return self.change([catalogue.names[row] for row in rows], new)

    def undo(self, asked: Asked) -> Asked:
        """Take back what one answer of `decide` says: {images, before, now}.

        Raises RequestRefused (409), and changes nothing, if somebody decided again meanwhile.
        """
        _, catalogue = self.shelf.read()
        images = [catalogue.names[row] for row in self.rows_of(asked, catalogue)]
        before, now = asked.get("before", {}), asked.get("now", {})
        for name, given in (("before", before), ("now", now)):
            if not isinstance(given, dict) or not all(map(is_decision, given.values())):
                raise RequestRefused(400, f"{name} should hold decisions by picture")
            if any(one.get("action") not in ACTIONS for one in given.values()):
                raise RequestRefused(400, f"{name} should hold an action: {', '.join(ACTIONS)}")

        def restore(image: str, old: Decision | None) -> Decision | None:
            if known_cells(old) != known_cells(now.get(image)):
                raise RequestRefused(409, f"{image} was decided again elsewhere; nothing is undone")
            return {**before[image], "image": image} if image in before else None

        return self.change(images, restore)

    def change(
        self, images: list[str], new: Callable[[str, Decision | None], Decision | None]
    ) -> Asked:
        """Write decisions; return what the page keeps for an undo, and the status."""
        changes = dict(zip(images, self.decisions.change(images, new), strict=True))
        self.shelf.decided(images)
        return {
            "images": images,
            "before": {image: old for image, (old, _) in changes.items() if old},
            "now": {image: now for image, (_, now) in changes.items() if now},
            "status": state_of(self.shelf),
        }

    # --- pictures ---

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
        _, catalogue = await run_in_threadpool(self.shelf.read)
        row = catalogue.rows.get(request.path_params["image"])
        if row is None:
            raise RequestRefused(404, f"this picture is not in {self.shelf.table}")
        path = self.shelf.file(row, catalogue)
        try:
            version = version_of(path)
        except OSError:
            raise RequestRefused(404, f"{path} is missing; `dvc checkout` restores it") from None
        tag = '"' + "-".join(map(str, version)) + '"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag})
        content = await run_in_threadpool(make, path, version)
        return Response(content, media_type="image/jpeg", headers={"etag": tag})


def filter_of(query: dict[str, str]) -> Filter:
    """Return the filter that a query describes."""
    given = {name: query[name] for name in ("label", "split", "order", "show") if query.get(name)}
    return Filter(**given)


def number_of(query: dict[str, str], name: str, lowest: int, highest: int, default: int) -> int:
    """Return a whole number in a query, kept between two. Raises RequestRefused if it is none."""
    text = query.get(name, "")
    if text and not re.fullmatch("[0-9]{1,9}", text):
        raise RequestRefused(400, f"{name} should be a whole number")
    return min(max(int(text or default), lowest), highest)


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
