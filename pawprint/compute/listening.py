"""The store over which torch.distributed joins processes, on one address instead of on all.

torch's own TCPStore listens on every interface of the machine, and has no option against it but a
socket that listens already.
"""

import contextlib
import importlib
import socket
from typing import Any

# where torch's launcher, and `init_process_group`, take TCPStore from
USERS = (
    "torch.distributed",
    "torch.distributed.rendezvous",
    "torch.distributed.elastic.rendezvous.c10d_rendezvous_backend",
)


def listen_on_one_address() -> None:
    """Let every store of this process listen on the address under which others find it.

    If that address is not the machine's own, as behind a router, it listens on all.
    """
    from torch.distributed import TCPStore

    class Store(TCPStore):
        def __init__(
            self,
            host_name: str,
            port: int,
            world_size: int | None = None,
            is_master: bool = False,
            **options: Any,
        ) -> None:
            if is_master:
                with contextlib.suppress(OSError):
                    listener = listen(host_name, port)
                    port = listener.getsockname()[1]
                    options["master_listen_fd"] = listener.detach()
            super().__init__(host_name, port, world_size, is_master, **options)

    for name in USERS:
        setattr(importlib.import_module(name), "TCPStore", Store)  # noqa: B010  for mypy


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port of a host; 0: a free one."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address[:2], family=family, backlog=1024)
