"""A picture from an address on the web, for `pawprint predict --allow-urls`: of bounded size and time, public only.

A list of addresses may come from a stranger, and must not reach into this network: every address that a name stands for
is checked, and the one that was checked is connected to, at each redirect anew.
"""

import time

import httpcore
import httpx

from pawprint.sources.network import CheckedNetwork, Deadline, Refused

MOST_BYTES = 30_000_000
SECONDS = 30  # for one picture, redirects and all
PATIENCE = {"connect": 10, "read": 10, "write": 10, "pool": 10}  # seconds without a sign
REDIRECTS = 5
AGENT = "pawprint/0.1 (asks an image classifier)"


def fetch(url: str) -> bytes:
    """The content of an http or https address.

    Raises OSError with a clear `strerror` where it cannot be had, is too large or takes too long.
    """
    try:
        deadline = Deadline()
        deadline.at = time.monotonic() + SECONDS
        with httpcore.ConnectionPool(
            network_backend=CheckedNetwork(allow_private=False, deadline=deadline)
        ) as pool:
            for _ in range(REDIRECTS + 1):
                address = httpx.URL(url)
                if address.scheme not in ("http", "https"):
                    raise OSError(
                        0, f"leads to {address.scheme or 'nothing'}://, not http or https"
                    )
                if not address.host or not 0 <= (address.port or 0) <= 65535:
                    raise OSError(0, "not an address")
                asked = httpcore.URL(
                    scheme=address.raw_scheme,
                    host=address.raw_host,
                    port=address.port,
                    target=address.raw_path,
                )
                headers = {"host": address.netloc.decode(), "user-agent": AGENT}
                with pool.stream(
                    "GET", asked, headers=headers, extensions={"timeout": PATIENCE}
                ) as response:
                    target = dict((name.lower(), value) for name, value in response.headers).get(
                        b"location"
                    )
                    if response.status in (301, 302, 303, 307, 308) and target:
                        url = str(address.join(target.decode("latin-1")))
                        continue
                    if response.status != 200:
                        raise OSError(0, f"the server answers {response.status}")
                    return read(response)
            raise OSError(0, f"more than {REDIRECTS} redirects")
    except Refused as why:
        raise OSError(0, str(why)) from None
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
