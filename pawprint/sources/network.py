"""Connections to public addresses only, each under one deadline.

For `gather`, and for `pawprint predict`. httpcore asks a network backend for its connections. This
one resolves the name itself, checks every address that comes back, and connects to the address it
has checked. So a name that resolves to something else a moment later (DNS rebinding) gains nothing.
A redirect is a new request, and is checked in the same way.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

# Prefixes whose last 32 bits are an IPv4 address that a translator on the way would connect to.
NAT64 = ipaddress.ip_network("64:ff9b::/96")
HOPELESS = 10  # failed connections to a host that never took one; after these it is given up


class AddressRefused(Exception):
    """An address that must not be asked; the message says why."""


class PrivateAddress(AddressRefused):
    """An address that is not on the public internet."""


class Deadline(threading.local):
    """The moment at which this thread's request is given up, on the clock of time.monotonic."""

    at: float = float("inf")

    def left(self, timeout: float | None) -> float:
        """Return the seconds until the deadline, or `timeout` if that is sooner.

        Raises ReadTimeout if none are left.
        """
        left = self.at - time.monotonic()
        if left <= 0.001:
            raise httpcore.ReadTimeout("total")
        return left if timeout is None else min(timeout, left)


def parse_address(url: str) -> httpx.URL:
    """Return an http or https address, its name and odd characters as the network wants them.

    Raises AddressRefused if it is something else.
    """
    try:
        address = httpx.URL(url)
        host, port = address.host, address.port or 0  # the name is decoded here, which can fail
    except (httpx.InvalidURL, ValueError, IndexError):
        raise AddressRefused("not an address") from None
    if address.scheme not in ("http", "https"):
        raise AddressRefused(f"{address.scheme or 'no scheme'} is not http or https")
    if not host or not 0 <= port <= 65535:
        raise AddressRefused("not an address")
    return address


def follow_redirect(address: httpx.URL, target: str) -> httpx.URL:
    """Return the address that a redirect leads to. Raises AddressRefused if it may not be asked."""
    try:
        url = str(address.join(target))
    except (httpx.InvalidURL, ValueError, IndexError):
        raise AddressRefused("it leads to something that is not an address") from None
    return parse_address(url)


def httpcore_url(address: httpx.URL) -> httpcore.URL:
    """Return an address as httpcore takes it."""
    return httpcore.URL(
        scheme=address.raw_scheme,
        host=address.raw_host,
        port=address.port,
        target=address.raw_path,
    )


def header_of(response: httpcore.Response, name: str) -> str:
    """Return the value of a header, or "". name: in small letters."""
    values = (value for key, value in response.headers if key.lower() == name.encode())
    return next(values, b"").decode("latin-1")


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the public internet, however it is wrapped."""
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
    """Return every address of a name.

    Raises PrivateAddress if one of them is not public, ConnectError if there is none.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise httpcore.ConnectError(f"the name {host} does not resolve") from None
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                raise PrivateAddress(f"{host} is {address}, not a public address")
    return addresses


class Stream(httpcore.NetworkStream):
    """A connection whose every read and write ends at the thread's deadline, however slow it is."""

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
    """Connects to addresses it has checked.

    trusted: the host of a proxy, whose address is the user's choice and not checked.
    A host that never took a connection is given up after HOPELESS failures: its other requests end
    as those did, at once.
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
        # Many threads connect: setdefault, append and add are atomic.
        failed = self.failed.setdefault((host, port), [])
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
