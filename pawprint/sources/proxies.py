"""The proxies of the environment: HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""

import re
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from pawprint.params import StageError


def proxy_for(address: httpx.URL) -> str:
    """Return the proxy that the environment names for an address, or ""."""
    host = address.raw_host.decode("ascii")
    return "" if proxy_bypass(host) else getproxies().get(address.scheme, "")


def httpcore_proxy(proxy: str) -> httpcore.Proxy:
    """Return a proxy as httpcore takes it, with its credentials.

    Raises StageError if it is not an http or https proxy.
    """
    parts = split_proxy(proxy, ("http", "https"))
    url = httpcore.URL(
        scheme=parts.scheme.encode(),
        host=(parts.hostname or "").encode("idna"),
        port=parts.port,
        target=b"/",
    )
    if parts.username is None:
        return httpcore.Proxy(url)
    user, password = unquote(parts.username), unquote(parts.password or "")
    return httpcore.Proxy(url, auth=(user.encode(), password.encode()))


def split_proxy(proxy: str, schemes: tuple[str, ...]) -> SplitResult:
    """Return the parts of a proxy's address; without a scheme it is taken for http.

    Raises StageError that does not show the password if it cannot be used.
    """
    shown = proxy.rpartition("@")[2][:80]
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host = (parts.hostname or "").encode("idna")
        usable = bool(re.fullmatch(rb"[\w.:-]+", host)) and (parts.port or 1) > 0
    except ValueError:  # UnicodeError is one
        usable = False
    if not usable or parts.scheme not in schemes:
        raise StageError(
            f"the environment names the proxy {shown!r} (HTTP_PROXY, HTTPS_PROXY or DDGS_PROXY); "
            f"it should be http://HOST:PORT; kinds of proxy that work: {', '.join(schemes)}"
        )
    return parts
