"""Reading the bodies of requests: bounded in size, in time and together, and in memory alone."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from pawprint.commands.web import RequestRefused


class Bodies:
    """The bodies that are on their way, which together hold at most `most` bytes.

    A body that comes slowly keeps nobody out: if the bodies grow beyond `most`, the one that has
    been on its way for longest is given up.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.sizes: dict[asyncio.Task[bytes], int] = {}  # the longest on its way first
        self.given_up: set[asyncio.Task[bytes]] = set()

    async def read(self, request: Request, largest: int, patience: float) -> bytes:
        """Return the body of a request.

        Raises RequestRefused: 413 as soon as more than `largest` bytes have come, 408 if it is not
        complete after `patience` seconds, 400 if the connection is closed before, 503 if it is
        given up for others.
        """
        task = asyncio.create_task(self.collect(request, largest))
        self.sizes[task] = 0
        try:
            return await asyncio.wait_for(task, patience)
        except asyncio.TimeoutError:  # it is not TimeoutError before Python 3.11
            raise RequestRefused(
                408, f"the body did not come within {patience:g} seconds"
            ) from None
        except asyncio.CancelledError:
            if task in self.given_up:
                raise RequestRefused(503, "the body came too slowly; try again later") from None
            raise
        finally:
            self.sizes.pop(task, None)
            self.given_up.discard(task)

    async def collect(self, request: Request, largest: int) -> bytes:
        """Return the body; see `read`."""
        body = bytearray()
        this = asyncio.current_task()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > largest:
                    raise RequestRefused(413, f"the body is larger than {largest / 1e6:g} MB")
                if this in self.sizes:
                    self.sizes[this] = len(body)
                    self.make_room()
        except ClientDisconnect:
            raise RequestRefused(400, "the connection was closed before the body came") from None
        return bytes(body)

    def make_room(self) -> None:
        """Give up the bodies that have been on their way for longest, until the others fit."""
        while sum(self.sizes.values()) > self.most:
            oldest = next(iter(self.sizes))
            del self.sizes[oldest]
            self.given_up.add(oldest)
            oldest.cancel()


class MemoryParser(MultiPartParser):
    """Starlette's parser of forms, which keeps every file in memory: a picture is not written."""

    spool_max_size = 1 << 40
    max_file_size = 1 << 40  # its name before Starlette 0.46


async def picture_in(request: Request, body: bytes) -> bytes:
    """Return the picture in a body: the body itself, or the first file of a multipart form.

    Raises RequestRefused (400) for a form that cannot be read or holds no file.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return body

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    try:
        parser = MemoryParser(request.headers, stream(), max_files=1, max_fields=8)
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError, ValueError):
        raise RequestRefused(400, "the form cannot be read") from None
    for value in form.values():
        if not isinstance(value, str):
            return await value.read()
    raise RequestRefused(400, "the form holds no file")
