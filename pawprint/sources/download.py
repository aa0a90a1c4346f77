"""Download many files from a web that does not always mean well.

Every address ends in a `Result`; none ends the run, and none can hold it up: connecting, each read and the whole
request have time-outs, a body may have `max_bytes`, and what is retried is retried `retries` times. So an address takes
at most (retries + 1) * total_timeout + retries * max_wait seconds; only slow look-ups of names can add to it.

Politeness: at most `per_host` connections to one host, a User-Agent that says who we are, and a server that answers 429
or 503 with Retry-After is left alone for as long as it asks, up to `max_wait`.
The HTTP is httpcore's, which holds a body to its Content-Length; see pawprint/network.py for whom it talks to.
"""

import contextlib
import email.utils
import hashlib
import threading
import time
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx
from pydantic import Field

from pawprint.params import Params
from pawprint.sources.content import HEAD, is_page, kind_of
from pawprint.sources.network import CheckedNetwork, Deadline, Refused, resolve

REDIRECTS = {301, 302, 303, 307, 308}
RETRIED = {408, 425, 429, 500, 502, 503, 504}


class DownloadParams(Params):
    """The section `gather.download` of params.yaml."""

    threads: int = Field(16, ge=1, le=256)
    per_host: int = Field(8, ge=1, le=64)
    connect_timeout: float = Field(10.0, gt=0)
    read_timeout: float = Field(15.0, gt=0)
    total_timeout: float = Field(60.0, gt=0)
    max_bytes: int = Field(30_000_000, ge=1)
    retries: int = Field(2, ge=0, le=10)
    max_wait: float = Field(30.0, ge=0)
    redirects: int = Field(5, ge=0, le=20)
    user_agent: str = Field("pawprint/0.1 (gathers pictures for an image classifier)", min_length=1)


@dataclass(frozen=True)
class Result:
    """How an address ended.

    status: `ok`; `gone` (404, 410, no such name); `not a picture` (a page in its place); `refused` (we did not want it:
    not http, not public, too large); `failed` (everything else). reason: why, in words that depend on no timing.
    """

    status: str
    reason: str = ""
    sha256: str = ""
    bytes: int = 0
    type: str = ""


class Failure(Exception):
    """An attempt that ended without a file. wait: None for never again, else seconds the server asks for, or 0."""

    def __init__(self, status: str, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.result, self.wait = Result(status, reason), wait


@dataclass
class Job:
    """An address to fetch into a file, not before `ready` on the clock of time.monotonic."""

    url: str
    target: Path
    tries: int = 0
    ready: float = 0.0


@dataclass
class Host:
    jobs: deque[Job] = field(default_factory=deque)
    busy: int = 0
    ready: float = 0.0


class Queue:
    """Hands out jobs so that no host has more than `per_host` at a time and a host that asked for rest has it."""

    def __init__(self, jobs: list[Job], per_host: int) -> None:
        self.per_host, self.left, self.changed = per_host, len(jobs), threading.Condition()
        self.hosts: dict[str, Host] = defaultdict(Host)
        for job in jobs:
            self.hosts[host_of(job.url)].jobs.append(job)

    def take(self) -> Job | None:
        """The next job whose time has come; waits for one. None when all are done."""
        with self.changed:
            while self.left > 0:
                now = time.monotonic()
                soonest = now + 60
                for name, host in self.hosts.items():
                    if not host.jobs or host.busy >= self.per_host:
                        continue
                    job = (
                        min(host.jobs, key=lambda job: job.ready)
                        if host.jobs[0].ready > now
                        else host.jobs[0]
                    )
                    ready = max(host.ready, job.ready)
                    if ready <= now:
                        host.jobs.remove(job)
                        host.busy += 1
                        self.hosts[name] = self.hosts.pop(name)  # the others' turn comes first
                        return job
                    soonest = min(soonest, ready)
                self.changed.wait(soonest - now)
            return None

    def again(self, job: Job, wait: float, whole_host: bool) -> None:
        with self.changed:
            host = self.hosts[host_of(job.url)]
            job.tries += 1
            job.ready = time.monotonic() + wait
            host.ready = job.ready if whole_host else host.ready
            host.jobs.append(job)
            host.busy -= 1
            self.changed.notify_all()

    def done(self, job: Job) -> None:
        with self.changed:
            self.hosts[host_of(job.url)].busy -= 1
            self.left -= 1
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.left = 0
            self.changed.notify_all()


def host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


class Downloader:
    """Fetches addresses into files. Safe to use from many threads; `with` closes its connections."""

    def __init__(self, options: DownloadParams, allow_private: bool) -> None:
        self.options, self.allow_private = options, allow_private
        self.deadline = Deadline()
        self.pools: dict[str, httpcore.ConnectionPool] = {}
        self.lock = threading.Lock()

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self.pools.values():
            pool.close()

    def fetch_all(self, files: dict[str, Path], done: Callable[[str, Result], None]) -> None:
        """Fetch every address into its file, `threads` at a time; `done` is called once for each, one at a time.

        files: address -> where to write; the file is there, whole, exactly when the status is `ok`.
        """
        queue = Queue([Job(url, target) for url, target in files.items()], self.options.per_host)
        workers = max(1, min(self.options.threads, len(files)))
        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(self._work, queue, done) for _ in range(workers)]
            try:
                for future in futures:
                    future.result()
            finally:
                queue.stop()

    def _work(self, queue: Queue, done: Callable[[str, Result], None]) -> None:
        try:
            while job := queue.take():
                try:
                    result = self.fetch(job.url, job.target)
                except Failure as failure:
                    if failure.wait is not None and job.tries < self.options.retries:
                        wait = min(max(failure.wait, 0.5 * 2**job.tries), self.options.max_wait)
                        queue.again(job, wait, whole_host=failure.wait > 0)
                        continue
                    result = failure.result
                with self.lock:
                    done(job.url, result)
                queue.done(job)
        except BaseException:
            queue.stop()
            raise

    def fetch(self, url: str, target: Path) -> Result:
        """Fetch one address into a file, following redirects; one attempt.

        Raises Failure, which holds the Result; then there is no file.
        """
        self.deadline.at = time.monotonic() + self.options.total_timeout
        try:
            for _ in range(self.options.redirects + 1):
                address = parse(url)
                with self.request(address) as response:
                    if response.status not in REDIRECTS:
                        return self._save(response, target)
                    url = str(address.join(header(response, "location")))
            raise Failure("failed", f"more than {self.options.redirects} redirects")
        except BaseException as error:
            target.unlink(missing_ok=True)
            failure = explain(error, self.options)
            if failure is error:
                raise
            raise failure from None

    def request(self, address: httpx.URL, headers: dict[str, str] | None = None):
        """A context manager that gives httpcore's response, body unread."""
        if self._proxy(address) and not self.allow_private:
            # A name that only the proxy can look up: whom it talks to is the proxy's decision.
            with contextlib.suppress(httpcore.ConnectError):
                resolve(address.host, address.port or 0, allow_private=False)
        options = self.options
        timeouts = {
            "connect": options.connect_timeout,
            "read": options.read_timeout,
            "write": options.read_timeout,
            "pool": options.total_timeout,
        }
        return self._pool(self._proxy(address)).stream(
            "GET",
            httpcore.URL(
                scheme=address.raw_scheme,
                host=address.raw_host,
                port=address.port,
                target=address.raw_path,
            ),
            headers={
                "User-Agent": options.user_agent,
                "Accept-Encoding": "identity",
                "Accept": "image/*,*/*;q=0.5",
            }
            | (headers or {}),
            extensions={"timeout": timeouts},
        )

    def _proxy(self, address: httpx.URL) -> str:
        return "" if proxy_bypass(address.host) else getproxies().get(address.scheme, "")

    def _pool(self, proxy: str) -> httpcore.ConnectionPool:
        with self.lock:
            if proxy not in self.pools:
                trusted = urlsplit(proxy).hostname or ""
                self.pools[proxy] = httpcore.ConnectionPool(
                    proxy=httpcore.Proxy(proxy) if proxy else None,
                    max_connections=self.options.threads,
                    max_keepalive_connections=self.options.threads,
                    keepalive_expiry=5.0,
                    network_backend=CheckedNetwork(self.allow_private, self.deadline, trusted),
                )
            return self.pools[proxy]

    def _save(self, response: httpcore.Response, target: Path) -> Result:
        if response.status != 200:
            status = "gone" if response.status in (404, 410) else "failed"
            wait = (
                retry_after(header(response, "retry-after")) if response.status in RETRIED else None
            )
            raise Failure(status, f"HTTP {response.status}", wait)
        limit = self.options.max_bytes
        if int(header(response, "content-length") or 0) > limit:
            raise Failure("refused", f"larger than gather.download.max_bytes, {limit}")
        sha256, size, head = hashlib.sha256(), 0, b""
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for chunk in decoded(response):
                self.deadline.left(None)
                size += len(chunk)
                if size > limit:
                    raise Failure("refused", f"larger than gather.download.max_bytes, {limit}")
                head = (head + chunk)[:HEAD] if len(head) < HEAD else head
                sha256.update(chunk)
                file.write(chunk)
        kind = kind_of(head)
        if is_page(kind):
            raise Failure("not a picture", f"{kind} stands where a picture was expected")
        return Result("ok", "", sha256.hexdigest(), size, kind)


def parse(url: str) -> httpx.URL:
    """An address that may be asked, normalised: international names and odd characters as the network wants them."""
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise Failure("refused", "not an address") from None
    if not 0 <= (address.port or 0) <= 65535:
        raise Failure("refused", "not an address")
    if address.scheme not in ("http", "https") or not address.host:
        raise Failure("refused", f"{address.scheme or 'no scheme'} is not http or https")
    return address


def header(response: httpcore.Response, name: str) -> str:
    return next(
        (
            value.decode("latin-1")
            for key, value in response.headers
            if key.lower() == name.encode()
        ),
        "",
    )


def retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for, given as a number or a date; 0 when there is none to be read."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def decoded(response: httpcore.Response) -> Iterator[bytes]:
    """The body. Packed ones, sent though `identity` was asked for, are unpacked at most 64 KiB at a time."""
    encoding = header(response, "content-encoding").strip().lower()
    if encoding in ("", "identity"):
        yield from response.iter_stream()
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Failure("failed", f"packed with {encoding}, though `identity` was asked for")
    unpack = zlib.decompressobj(47)  # gzip or zlib, as the header says
    for chunk in response.iter_stream():
        while chunk and not unpack.eof:
            yield unpack.decompress(chunk, 1 << 16)
            chunk = unpack.unconsumed_tail
    while not unpack.eof and (rest := unpack.decompress(b"", 1 << 16)):
        yield rest
    if not unpack.eof:
        raise Failure("failed", "cut short", 0.0)


def explain(error: BaseException, options: DownloadParams) -> BaseException:
    """The Failure that an error of the network stands for; errors of our own stay what they are."""
    match error:
        case Refused():
            return Failure("refused", f"{error}; gather.allow_private would allow it")
        case httpcore.ConnectTimeout():
            return Failure("failed", f"no connection within {options.connect_timeout:g} s", 0.0)
        case httpcore.ReadTimeout() if str(error) == "total":
            return Failure("failed", f"not finished within {options.total_timeout:g} s", 0.0)
        case httpcore.TimeoutException():
            return Failure("failed", f"no answer for {options.read_timeout:g} s", 0.0)
        case httpcore.ConnectError() if "does not resolve" in str(error):
            return Failure("gone", str(error), 0.0)
        case httpcore.ConnectError():
            return Failure("failed", "no connection", 0.0)
        case httpcore.RemoteProtocolError():
            return Failure("failed", "cut short, or not HTTP", 0.0)
        case (
            httpcore.NetworkError()
            | httpcore.ProtocolError()
            | httpcore.ProxyError()
            | httpcore.UnsupportedProtocol()
        ):
            return Failure("failed", "the connection broke off", 0.0)
        case httpx.InvalidURL():
            return Failure("refused", "it leads to something that is no address")
        case zlib.error():
            return Failure("failed", "badly packed")
    return error
