"""A server on 127.0.0.1 in a thread of this process."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

S = TypeVar("S", bound="Serving")


class Listener(ThreadingHTTPServer):
    """world: what the requests are asked of."""

    daemon_threads = True
    request_queue_size = 128
    world: "Serving"

    def handle_error(self, *about: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # clients that hang up are what is tested
            super().handle_error(*about)


class Serving:
    """Listens until the end of a `with`. Its handler finds it as `self.server.world`."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.http = Listener(("127.0.0.1", 0), handler)
        self.http.world = self
        self.base = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()
