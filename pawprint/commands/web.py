"""What the servers of `pawprint review` and `pawprint serve` share: who may ask, and how long.

A page on the web can make its reader's browser ask this machine. It is kept out three ways:

- Host: a page can make its own name lead to this machine (DNS rebinding), so only names that no
  stranger can own are answered: localhost, IP addresses, and those that the user allows.
- Origin: the browser says which page asks; only our own may.
- a header of our own for changes, which no foreign page can send without asking first.

A client that sends nothing, or half of its headers, is dropped after a while, and first of all when
connections get scarce.
"""

import argparse
import hmac
import ipaddress
import os
import re
import socket
import sys
from asyncio import TimerHandle, Transport
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",  # ask again: files and decisions change
}
COOKIE = "pawprint"
REQUEST_SECONDS = 10  # in which a client must have sent the headers of its next request
MOST_CONNECTIONS = 512  # fewer if the process may open few files

PAGES = Path(__file__).parent / "pages"
SHARED = Path(__file__).parents[1] / "judging"  # the report has theme and icon too
MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


class RequestRefused(Exception):
    """A request that is not followed: the HTTP status, and what the client may read."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    def response(self) -> Response:
        """Return the refusal as JSON: {"error": message}."""
        headers = {"retry-after": "1"} if self.status == 503 else {}
        return JSONResponse({"error": self.message}, self.status, headers)


async def answer_refused(request: Request, error: Exception) -> Response:
    """Answer a RequestRefused; a handler for Starlette."""
    assert isinstance(error, RequestRefused)
    return error.response()


@dataclass(frozen=True)
class Access:
    """Who may ask a server.

    loopback: it listens on this machine alone, and only loopback names are answered.
    names: further names of the server, as `--allow-host` gives them.
    token: if not "", every request must carry it, and any Host is answered.
    changes: if not "", what the header x-pawprint must say in every request that is not a GET.
    probes: paths that are answered under any name, for health checks.
    hint: what a client that asks under a wrong name may do.
    """

    loopback: bool = True
    names: frozenset[str] = frozenset()
    token: str = ""
    changes: str = ""
    probes: frozenset[str] = frozenset()
    hint: str = "ask it as localhost"

    def check(self, request: Request) -> None:
        """Raise RequestRefused (403) if the request may not be answered."""
        host = request.headers.get("host", "")
        if self.token:
            given = request.query_params.get("token") or request.cookies.get(COOKIE, "")
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                raise RequestRefused(403, "open the address with the token that was printed")
        elif request.scope["path"] not in self.probes and not self.knows(host):
            raise RequestRefused(403, f"this server does not go by that name; {self.hint}")
        if not self.is_own_page(request, host):
            raise RequestRefused(403, "pages of other sites may not ask this server")
        if (
            self.changes
            and request.method not in ("GET", "HEAD")
            and request.headers.get("x-pawprint") != self.changes
        ):
            raise RequestRefused(403, "changes are taken from this server's own page alone")

    def knows(self, host: str) -> bool:
        """Return whether the server is known under a name, as the header Host gives it."""
        name = host_name(host)
        return name in self.names or is_loopback(name) or (not self.loopback and is_address(name))

    def is_own_page(self, request: Request, host: str) -> bool:
        """Return whether no page asks, or this server's own. Behind a proxy Host may differ."""
        origin = request.headers.get("origin")
        if origin is not None:
            page = origin.partition("://")[2].lower()
            return bool(page) and (page == host.lower() or host_name(page) in self.names)
        # browsers leave out Origin in some requests, such as an old one's form
        site = request.headers.get("sec-fetch-site", "none")
        return request.method in ("GET", "HEAD") or site in ("none", "same-origin")


def host_name(host: str) -> str:
    """Return the name in a Host header, without its port, in lower case; "" if there is none."""
    found = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/@\s]+?)\.?)(?::\d*)?", host.lower())
    return (found[1] or found[2]) if found else ""


def is_address(name: str) -> bool:
    """Return whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Return whether a name leads to this machine alone."""
    return name == "localhost" or (is_address(name) and ipaddress.ip_address(name).is_loopback)


class Guard:
    """ASGI middleware that refuses what `access` does not allow, and adds HEADERS to every answer.

    A token in the address is answered with a cookie, which carries it from there.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, headers, app = Request(scope), dict(HEADERS), self.app
        try:
            self.access.check(request)
        except RequestRefused as error:
            app = error.response()
        else:
            if "token" in request.query_params and self.access.token:
                cookie = f"{COOKIE}={self.access.token}; HttpOnly; SameSite=Strict; Path=/"
                headers["set-cookie"] = cookie
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *pairs]
            await send(message)

        await app(scope, receive, send_with_headers)


class PatientProtocol(H11Protocol):
    """HTTP connections that nobody can hold for ever by sending nothing, or half of the headers.

    A client has REQUEST_SECONDS to send the headers of its next request. If more connections are
    open than `most_connections`, the one that has been silent or slow for longest is dropped: first
    of those without a request, then of those whose body is still coming.
    """

    timer: TimerHandle | None = None
    since: float = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.await_request()
        if len(self.connections) > most_connections():
            self.drop_the_slowest()

    def drop_the_slowest(self) -> None:
        """Drop the connection that is silent or slow for longest, if too many are open."""
        others = [
            each
            for each in self.connections
            if isinstance(each, PatientProtocol) and not each.transport.is_closing()
        ]
        if len(others) <= most_connections():
            return
        now = self.loop.time()
        silent = [each for each in others if each.is_idle() and now - each.since > 1]
        slow = [each for each in others if each.is_idle() or each.cycle.more_body]
        min(silent or slow, key=lambda each: each.since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timer:
            self.timer.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.await_request()

    def is_idle(self) -> bool:
        """Return whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def await_request(self) -> None:
        """Begin to wait for the headers of the next request."""
        if self.timer:
            self.timer.cancel()
        self.since = self.loop.time()
        self.timer = self.loop.call_later(REQUEST_SECONDS, self.give_up)

    def give_up(self) -> None:
        """Close the connection if no request has come; drop it if its last answer is not read."""
        if self.transport.is_closing():
            self.transport.abort()
        elif self.is_idle():
            self.transport.close()
            self.await_request()


def most_connections() -> int:
    """Return how many connections may be open: a quarter of the files that may be open."""
    try:
        import resource
    except ImportError:  # Windows
        return MOST_CONNECTIONS
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files < 0 else min(MOST_CONNECTIONS, files // 4)


def page_routes(name: str) -> list[Route]:
    """Return the routes of a page: its HTML at /, and its style, scripts, theme and icon."""
    found = (PAGES / f"{name}.css", *PAGES.glob(f"{name}*.js"))
    return file_routes({"/": PAGES / f"{name}.html", **{f"/{file.name}": file for file in found}})


def file_routes(files: Mapping[str, Path]) -> list[Route]:
    """Return the routes of files of the package, by their paths, and those of theme and icon."""
    shared = {f"/{name}": SHARED / name for name in ("theme.css", "paw.svg")}
    return [Route(path, serve_file(file)) for path, file in {**files, **shared}.items()]


def serve_file(file: Path) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that answers with a file of the package."""
    content, media_type = file.read_bytes(), MEDIA_TYPES[file.suffix]

    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


def add_server_arguments(parser: argparse.ArgumentParser, port: int) -> None:
    """Add --host and --port."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--port",
        type=between(int, 0, 65535),
        default=port,
        help=f"port to listen on, {port} unless given; 0 for any free one",
    )


def between(kind: type, lowest: float, highest: float) -> Callable[[str], float]:
    """Return what argparse calls to read a number of a kind, from `lowest` to `highest`."""

    def number(text: str) -> float:
        if not lowest <= (value := kind(text)) <= highest:
            raise argparse.ArgumentTypeError(f"{text} should be {lowest:g} to {highest:g}")
        return value

    return number


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises OSError or UnicodeError if the address is not free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers without delay only if the protocol is named
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


def run_server(app: ASGIApp, name: str, host: str, port: int, query: str = "", **how: Any) -> None:
    """Print the address, and serve `app` until stopped; requests under way are finished first.

    name: of the command; query: what the printed address ends with; how: further options of
    uvicorn. Exits with one line if the port is not free.
    """
    try:
        listening = listen(host, port)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        sys.exit(f"pawprint: cannot listen on {host}, port {port}: {reason}; see --host and --port")
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/{query}"
    print(f"{name}: {address}  (Ctrl-C stops it)", flush=True)
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        server_header=False,
        backlog=most_connections() * 3 // 4,  # so many are accepted at once, then some dropped
        timeout_graceful_shutdown=10,
        **how,
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
