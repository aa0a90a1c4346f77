"""A picture from an address on the web, for `pawprint predict --allow-urls`: of bounded size and time, public only.

A list of addresses may come from a stranger, and must not reach into this network: every address that a name stands for
is checked, and the one that was checked is connected to, at each redirect anew.
"""

import ipaddress
import socket
import ssl
import time
from typing import Any

import httpcore
import httpx

MOST_BYTES = 30_000_000
SECONDS = 30  # for one picture, redirects and all
PATIENCE = {"connect": 10, "read": 10, "write": 10, "pool": 10}  # seconds without a sign
REDIRECTS = 5
AGENT = "pawprint/0.1 (asks an image classifier)"


class Bounded(httpcore.NetworkStream):
    """A connection whose every read and write ends at one moment, however slowly the other side drips."""

    def __init__(self, inner: httpcore.NetworkStream, until: float) -> None:
        self.inner, self.until = inner, until

    def left(self, timeout: float | None) -> float:
        """Seconds for the next step; raises ReadTimeout when none are left."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left if timeout is None else min(left, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, self.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.inner.write(buffer, self.left(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "Bounded":
        return Bounded(self.inner.start_tls(ssl_context, server_hostname, self.left(timeout)), self.until)

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)

    def close(self) -> None:
        self.inner.close()


class PublicNetwork(httpcore.SyncBackend):
    """Connects to public addresses only, until a moment. Raises httpcore.ConnectError for others."""

    def __init__(self, until: float) -> None:
        self.until = until

    def connect_tcp(self, host: str, port: int, **options: Any) -> Bounded:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError):
            raise httpcore.ConnectError(f"the name {host} does not resolve") from None
        addresses = [str(each[4][0]) for each in found]
        for address in addresses:
            if not is_public(address):
                raise httpcore.ConnectError(f"{host} is {address}, not a public address")
        return Bounded(super().connect_tcp(addresses[0], port, **options), self.until)


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet; IPv6 that wraps an IPv4 address is not taken for it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    wraps = ip.version == 6 and (
        ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip in ipaddress.ip_network("64:ff9b::/96")
    )
    return ip.is_global and not ip.is_multicast and not wraps


def fetch(url: str) -> bytes:
    """The content of an http or https address.

    Raises OSError with a clear `strerror` where it cannot be had, is too large or takes too long.
    """
    try:
        with httpcore.ConnectionPool(network_backend=PublicNetwork(time.monotonic() + SECONDS)) as pool:
            for _ in range(REDIRECTS + 1):
                address = httpx.URL(url)
                if address.scheme not in ("http", "https"):
                    raise OSError(0, f"leads to {address.scheme or 'nothing'}://, not http or https")
                if not address.host or not 0 <= (address.port or 0) <= 65535:
                    raise OSError(0, "not an address")
                asked = httpcore.URL(
                    scheme=address.raw_scheme, host=address.raw_host, port=address.port, target=address.raw_path
                )
                headers = {"host": address.netloc.decode(), "user-agent": AGENT}
                with pool.stream("GET", asked, headers=headers, extensions={"timeout": PATIENCE}) as response:
                    target = dict((name.lower(), value) for name, value in response.headers).get(b"location")
                    if response.status in (301, 302, 303, 307, 308) and target:
                        url = str(address.join(target.decode("latin-1")))
                        continue
                    if response.status != 200:
                        raise OSError(0, f"the server answers {response.status}")
                    return read(response)
            raise OSError(0, f"more than {REDIRECTS} redirects")
    except httpcore.TimeoutException:
        raise OSError(0, "the server does not answer in time") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpx.InvalidURL) as error:
        raise OSError(0, " ".join(str(error).split()) or type(error).__name__) from None


def read(response: httpcore.Response) -> bytes:
    """The body, while it is not too large."""
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise OSError(0, f"larger than {MOST_BYTES // 1_000_000} MB")
    return bytes(body)
