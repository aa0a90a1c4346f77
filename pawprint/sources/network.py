"""Connections to public addresses only, each under one deadline: for `gather`, and for `pawprint predict`.

httpcore asks a network backend for its connections. This one resolves the name itself, checks every address that comes
back and connects to the address it has checked. A name that resolves to something else a moment later (DNS rebinding)
gains nothing, and because a redirect is a new request, each hop is checked in the same way.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore

# Prefixes whose last 32 bits are an IPv4 address that a translator on the way would connect to.
NAT64 = ipaddress.ip_network("64:ff9b::/96")
HOPELESS = 10  # failed connections to a host that never took one, after which it is not tried again


class Refused(Exception):
    """An address that must not be asked; the message says why."""


class Deadline(threading.local):
    """The moment at which this thread's request is given up, on the clock of time.monotonic."""

    at: float = float("inf")

    def left(self, timeout: float | None) -> float:
        """Seconds until the deadline, or `timeout` if that is sooner. Raises ReadTimeout when none are left."""
        left = self.at - time.monotonic()
        if left <= 0.001:
            raise httpcore.ReadTimeout("total")
        return left if timeout is None else min(timeout, left)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, whatever it is wrapped in."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def resolve(host: str, port: int, allow_private: bool) -> list[str]:
    """Every address of a name. Raises Refused if one of them is not public, ConnectError if there is none."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise httpcore.ConnectError(f"the name {host} does not resolve") from None
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                raise Refused(f"{host} is {address}, not a public address")
    return addresses


class Stream(httpcore.NetworkStream):
    """A connection whose every read and write ends at the thread's deadline, however slowly the other side drips."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self.inner, self.deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return self.inner.read(max_bytes, self.deadline.left(timeout))
        except httpcore.ReadTimeout:
            self.deadline.left(None)  # says so if it was the deadline that ended it
            raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.inner.write(buffer, self.deadline.left(timeout))

    def close(self) -> None:
        self.inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        inner = self.inner.start_tls(ssl_context, server_hostname, self.deadline.left(timeout))
        return Stream(inner, self.deadline)

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)


class CheckedNetwork(httpcore.SyncBackend):
    """Connects to addresses it has checked. Through a proxy the proxy's own address is the user's choice: `trusted`.

    A host that never took a connection is given up after HOPELESS failures: what is left ends as they did, at once.
    """

    def __init__(self, allow_private: bool, deadline: Deadline, trusted: str = "") -> None:
        self.allow_private, self.deadline, self.trusted = allow_private, deadline, trusted
        self.taken: set[tuple[str, int]] = set()
        self.failed: dict[tuple[str, int], list[type[Exception]]] = {}

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failed = self.failed.setdefault(
            (host, port), []
        )  # atomic, as append and add are: many threads connect
        if len(failed) >= HOPELESS and (host, port) not in self.taken:
            raise failed[-1]()
        addresses = resolve(host, port, self.allow_private or host == self.trusted)
        for last, address in enumerate(addresses, start=1 - len(addresses)):
            try:
                left = self.deadline.left(timeout)
                inner = super().connect_tcp(address, port, left, local_address, socket_options)
                self.taken.add((host, port))
                return Stream(inner, self.deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                if last == 0:
                    failed.append(type(error))
                    raise
        raise httpcore.ConnectError(f"the name {host} has no address")
