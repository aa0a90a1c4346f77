"""A picture from the web, for `pawprint predict --allow-urls`: public, of bounded size and time.

A list of addresses may come from a stranger, and must not reach into this network. So every address
that a name resolves to is checked, the checked one is connected to, and so is each redirect.
"""

import time

import httpcore

from pawprint.sources.network import (
    AddressRefused,
    CheckedNetwork,
    Deadline,
    follow_redirect,
    header_of,
    httpcore_url,
    parse_address,
)

MOST_BYTES = 30_000_000
SECONDS = 30  # for one picture, with its redirects
PATIENCE = {"connect": 10, "read": 10, "write": 10, "pool": 10}  # seconds without a sign
REDIRECTS = 5
AGENT = "pawprint/0.1 (asks an image classifier)"


def fetch(url: str) -> bytes:
    """Return the content of an http or https address.

    Raises OSError with a clear `strerror` if it cannot be fetched, is too large or takes too long.
    """
    deadline = Deadline()
    deadline.at = time.monotonic() + SECONDS
    backend = CheckedNetwork(allow_private=False, deadline=deadline)
    try:
        with httpcore.ConnectionPool(network_backend=backend) as pool:
            return _fetch_and_follow(url, pool)
    except AddressRefused as why:
        raise OSError(0, str(why)) from None
    except httpcore.TimeoutException:
        raise OSError(0, "the server does not answer in time") from None
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise OSError(0, " ".join(str(error).split()) or type(error).__name__) from None


def _fetch_and_follow(url: str, pool: httpcore.ConnectionPool) -> bytes:
    """Return the content of an address, following redirects."""
    address = parse_address(url)
    for _ in range(REDIRECTS + 1):
        headers = [("host", address.netloc.decode()), ("user-agent", AGENT)]
        with pool.stream(
            "GET", httpcore_url(address), headers=headers, extensions={"timeout": PATIENCE}
        ) as response:
            target = header_of(response, "location")
            if response.status in (301, 302, 303, 307, 308) and target:
                address = follow_redirect(address, target)
                continue
            if response.status != 200:
                raise OSError(0, f"the server answers {response.status}")
            return _read_body(response)
    raise OSError(0, f"more than {REDIRECTS} redirects")


def _read_body(response: httpcore.Response) -> bytes:
    """Return the body, while it is not too large."""
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise OSError(0, f"larger than {MOST_BYTES // 1_000_000} MB")
    return bytes(body)
