"""Download many files from a web that may be slow, broken or hostile.

Every address ends in a `Result`. None ends the run or holds it up: connecting, each read and the
whole request have time-outs, a body may have `max_bytes`, and what is retried is retried `retries`
times. So an address takes at most (retries + 1) * total_timeout + retries * max_wait seconds. Only
slow look-ups of names can add to it.

Politeness: at most `per_host` connections to one host, and a User-Agent that says who we are. A
server that answers 429 or 503 with Retry-After is left alone for as long as it asks, up to
`max_wait`. The HTTP is httpcore's, which holds a body to its Content-Length. Which addresses may be
asked: pawprint/sources/network.py.
"""

import contextlib
import email.utils
import errno
import hashlib
import threading
import time
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpcore
import httpx
from pydantic import Field, field_validator

from pawprint.compute.engine import Engine
from pawprint.params import Params, StageError
from pawprint.sources.content import HEAD, content_type_of, is_page, is_video
from pawprint.sources.names import A_VIDEO
from pawprint.sources.network import (
    AddressRefused,
    CheckedNetwork,
    Deadline,
    PrivateAddress,
    follow_redirect,
    header_of,
    httpcore_url,
    parse_address,
    resolve,
)
from pawprint.sources.proxies import httpcore_proxy, proxy_for

REDIRECTS = {301, 302, 303, 307, 308}
RETRIED = {408, 425, 429, 500, 502, 503, 504}
MAX_SECONDS = 86_400  # of any time-out
OURS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO}  # not the web's fault
PART_OF_A_CPU = 0.1  # that a download takes


class DownloadParams(Params):
    """The section `gather.download` of params.yaml."""

    threads: int = Field(default=16, ge=1, le=256)
    per_host: int = Field(default=8, ge=1, le=64)
    connect_timeout: float = Field(default=10.0, gt=0, le=MAX_SECONDS)
    read_timeout: float = Field(default=15.0, gt=0, le=MAX_SECONDS)
    total_timeout: float = Field(default=60.0, gt=0, le=MAX_SECONDS)
    max_bytes: int = Field(default=30_000_000, ge=1)
    retries: int = Field(default=2, ge=0, le=10)
    max_wait: float = Field(default=30.0, ge=0, le=MAX_SECONDS)
    redirects: int = Field(default=5, ge=0, le=20)
    user_agent: str = "pawprint/0.1 (gathers pictures for an image classifier)"

    @field_validator("user_agent")
    @classmethod
    def _can_be_a_header(cls, value: str) -> str:
        if not value.isascii() or not value.isprintable() or value != value.strip() or not value:
            raise ValueError("should be ASCII letters, digits and signs in one line")
        return value


@dataclass(frozen=True)
class Result:
    """How an address ended.

    status: `ok`; `gone` (404, 410, no such name); `not a picture` (a page in its place); `refused`
    (we did not want it: not http, not public, too large); `failed` (everything else).
    reason: why, in words that do not depend on timing.
    """

    status: str
    reason: str = ""
    sha256: str = ""
    bytes: int = 0
    type: str = ""


class Failure(Exception):
    """An attempt that ended without a file.

    wait: None if it is not worth a second attempt, else the seconds the server asks for, or 0.
    """

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
    """What is to be fetched from one host, and when it may be asked again."""

    jobs: deque[Job] = field(default_factory=deque)
    busy: int = 0
    ready: float = 0.0


class Queue:
    """Hands out jobs: at most `per_host` of a host at a time, none if it asked for rest."""

    def __init__(self, jobs: list[Job], per_host: int) -> None:
        self.per_host, self.left, self.changed = per_host, len(jobs), threading.Condition()
        self.hosts: dict[str, Host] = defaultdict(Host)
        for job in jobs:
            self.hosts[host_of(job.url)].jobs.append(job)

    def take(self) -> Job | None:
        """Return the next job whose time has come; wait for one. None when all are done."""
        with self.changed:
            while self.left > 0:
                now = time.monotonic()
                soonest = now + 60
                for name, host in self.hosts.items():
                    if not host.jobs or host.busy >= self.per_host:
                        continue
                    job = host.jobs[0]
                    if job.ready > now:
                        job = min(host.jobs, key=lambda job: job.ready)
                    ready = max(host.ready, job.ready)
                    if ready <= now:
                        host.jobs.remove(job)
                        host.busy += 1
                        self.hosts[name] = self.hosts.pop(name)  # the others' turn comes first
                        return job
                    soonest = min(soonest, ready)
                self.changed.wait(soonest - now)
            return None

    def put_back(self, job: Job, wait: float, whole_host: bool) -> None:
        """Try a job again after `wait` seconds; whole_host: leave its host alone until then."""
        with self.changed:
            host = self.hosts[host_of(job.url)]
            job.tries += 1
            job.ready = time.monotonic() + wait
            host.ready = job.ready if whole_host else host.ready
            host.jobs.append(job)
            host.busy -= 1
            self.changed.notify_all()

    def finish(self, job: Job) -> None:
        """Count a job as done."""
        with self.changed:
            self.hosts[host_of(job.url)].busy -= 1
            self.left -= 1
            self.changed.notify_all()

    def stop(self) -> None:
        """Hand out no more jobs."""
        with self.changed:
            self.left = 0
            self.changed.notify_all()


def host_of(url: str) -> str:
    """Return the host and port of an address, or "" if it has none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


class Downloader:
    """Fetches addresses into files, from many threads. `with` closes its connections.

    engine: if it is a cluster, its workers fetch, one attempt at a time. Whose turn it is, and what
    is tried again, is decided here for all of them, so they are as polite as one machine.
    """

    def __init__(
        self, options: DownloadParams, allow_private: bool, engine: Engine | None = None
    ) -> None:
        self.options, self.allow_private = options, allow_private
        self.engine = engine or Engine()
        self.deadline = Deadline()
        self.pools: dict[str, httpcore.ConnectionPool] = {}
        self.lock = threading.Lock()

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self.pools.values():
            pool.close()

    def fetch_all(self, files: dict[str, Path], done: Callable[[str, Result], None]) -> None:
        """Fetch every address into its file, `threads` at a time.

        files: address -> where to write; the file is there, whole, exactly if the status is `ok`.
        done: called once for each address, one at a time.
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
        fetch = self.fetch_on_cluster if self.engine.is_remote else self.fetch
        try:
            while job := queue.take():
                try:
                    result = fetch(job.url, job.target)
                except Failure as failure:
                    if failure.wait is not None and job.tries < self.options.retries:
                        wait = min(max(failure.wait, 0.5 * 2**job.tries), self.options.max_wait)
                        queue.put_back(job, wait, whole_host=failure.wait > 0)
                        continue
                    result = failure.result
                with self.lock:
                    done(job.url, result)
                queue.finish(job)
        except BaseException:
            queue.stop()
            raise

    def fetch(self, url: str, target: Path) -> Result:
        """Fetch one address into a file, following redirects; one attempt.

        Raises Failure, which holds the Result; then there is no file.
        """
        self.deadline.at = time.monotonic() + self.options.total_timeout
        try:
            address = parse_address(url)
            for _ in range(self.options.redirects + 1):
                with self.request(address) as response:
                    if response.status not in REDIRECTS:
                        return self._save(response, target)
                    address = follow_redirect(address, header_of(response, "location"))
            raise Failure("failed", f"more than {self.options.redirects} redirects")
        except BaseException as error:
            target.unlink(missing_ok=True)
            failure = failure_of(error, self.options)
            if failure is error:
                raise
            raise failure from None

    def fetch_on_cluster(self, url: str, target: Path) -> Result:
        """Let a worker make the attempt of `fetch`; raises Failure as that does."""
        work = partial(fetch_here, options=self.options, allow_private=self.allow_private)
        ((status, reason, wait, result, content),) = self.engine.map(
            work, [url], pool="here", cpus=PART_OF_A_CPU
        )
        if result is None:
            raise Failure(status, reason, wait)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return result

    def request(
        self, address: httpx.URL, headers: dict[str, str] | None = None
    ) -> contextlib.AbstractContextManager[httpcore.Response]:
        """Return a context manager that gives httpcore's response, body unread."""
        options, proxy = self.options, proxy_for(address)
        if proxy and not self.allow_private:
            # A name that only the proxy can look up: whom it talks to is the proxy's decision.
            with contextlib.suppress(httpcore.ConnectError):
                resolve(address.raw_host.decode("ascii"), address.port or 0, allow_private=False)
        timeouts = {
            "connect": options.connect_timeout,
            "read": options.read_timeout,
            "write": options.read_timeout,
            "pool": options.total_timeout,
        }
        sent = [
            ("User-Agent", options.user_agent),
            ("Accept-Encoding", "identity"),
            ("Accept", "image/*,*/*;q=0.5"),
            *(headers or {}).items(),
        ]
        return self._pool(proxy).stream(
            "GET", httpcore_url(address), headers=sent, extensions={"timeout": timeouts}
        )

    def _pool(self, name: str) -> httpcore.ConnectionPool:
        """Return the connections through a proxy, or directly if its name is ""."""
        with self.lock:
            if name not in self.pools:
                proxy = httpcore_proxy(name) if name else None
                trusted = proxy.url.host.decode() if proxy else ""
                self.pools[name] = httpcore.ConnectionPool(
                    proxy=proxy,
                    max_connections=self.options.threads,
                    max_keepalive_connections=self.options.threads,
                    keepalive_expiry=5.0,
                    network_backend=CheckedNetwork(self.allow_private, self.deadline, trusted),
                )
            return self.pools[name]

    def _save(self, response: httpcore.Response, target: Path) -> Result:
        """Write the body to a file. Raises Failure if it is not wanted."""
        if response.status != 200:
            status = "gone" if response.status in (404, 410) else "failed"
            wait = None
            if response.status in RETRIED:
                wait = seconds_to_wait(header_of(response, "retry-after"))
            raise Failure(status, f"HTTP {response.status}", wait)
        limit = self.options.max_bytes
        if int(header_of(response, "content-length") or 0) > limit:
            raise Failure("refused", f"larger than gather.download.max_bytes, {limit}")
        sha256, size, head = hashlib.sha256(), 0, b""
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for chunk in unpack_body(response):
                self.deadline.left(None)
                size += len(chunk)
                if size > limit:
                    raise Failure("refused", f"larger than gather.download.max_bytes, {limit}")
                head = (head + chunk)[:HEAD] if len(head) < HEAD else head
                sha256.update(chunk)
                file.write(chunk)
        kind = content_type_of(head)
        if is_page(kind):
            raise Failure("not a picture", f"{kind} in the place of a picture")
        if is_video(kind):
            raise Failure("not a picture", A_VIDEO)
        return Result("ok", "", sha256.hexdigest(), size, kind)


DOWNLOADERS: dict[str, Downloader] = {}  # in a worker: it keeps its connections


def fetch_here(
    url: str, options: DownloadParams, allow_private: bool
) -> tuple[str, str, float | None, Result | None, bytes]:
    """Make one attempt in a worker.

    Return the status, reason and wait of its Failure, or its Result and the content.
    """
    key = f"{options!r} {allow_private}"
    if key not in DOWNLOADERS:
        DOWNLOADERS[key] = Downloader(options, allow_private)
    target = Path("part")
    try:
        result = DOWNLOADERS[key].fetch(url, target)
    except Failure as failure:
        return failure.result.status, failure.result.reason, failure.wait, None, b""
    return "", "", None, result, target.read_bytes()


def seconds_to_wait(value: str) -> float:
    """Return the seconds that a Retry-After header, a number or a date, asks for; 0 if odd."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError, IndexError, OSError):
        return 0.0


def unpack_body(response: httpcore.Response) -> Iterator[bytes]:
    """Yield the body; a packed one, sent though `identity` was asked for, in small pieces."""
    encoding = header_of(response, "content-encoding").strip().lower()
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


def failure_of(error: BaseException, options: DownloadParams) -> BaseException:
    """Return the Failure that an error of a request means; other errors stay what they are."""
    match error:
        case PrivateAddress():
            return Failure("refused", f"{error}; gather.allow_private would allow it")
        case AddressRefused():
            return Failure("refused", str(error))
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
        case httpcore.ProxyError():
            return Failure("failed", f"the proxy answers {str(error)[:80]}", 0.0)
        case httpcore.NetworkError() | httpcore.ProtocolError() | httpcore.UnsupportedProtocol():
            return Failure("failed", "the connection broke off", 0.0)
        case zlib.error():
            return Failure("failed", "badly packed")
        case OSError() if error.errno in OURS:
            return error
        case Failure() | StageError() | MemoryError():
            return error
        case Exception():  # a server can be odd in ways that nobody has thought of
            why = " ".join(f"{type(error).__name__}: {error}".split())
            return Failure("failed", why[:200])
    return error
