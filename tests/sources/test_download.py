"""gather against a slow, broken and hostile web: every address ends in one row, none stops it."""

import contextlib
import errno
import gzip
import time
import zlib
from functools import partial
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pawprint.sources.download import Downloader, DownloadParams, Failure, seconds_to_wait
from pawprint.sources.network import AddressRefused, follow_redirect, httpcore_url, parse_address
from tests.support.world import (
    QUICK,
    Handler,
    Server,
    World,
    drip,
    drip_headers,
    picture,
    redirect,
    reset,
    stall,
)


def declare(handler: Handler, length: int, body: bytes) -> None:
    """Send another number of bytes than the header says."""
    handler.reply(200, b"", Content_Length=str(length))
    handler.wfile.write(body)
    handler.close_connection = True


def endless(handler: Handler, size: int, headers: dict[str, str]) -> None:
    """A body of `size` bytes, as fast as the other side takes it."""
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.close_connection = True
    for _ in range(size // 65536):
        handler.wfile.write(b"\xff\xd8\xff" + bytes(65533))


def bomb() -> bytes:
    """20 MB of zeros after a JPEG's first bytes, in 20 kB."""
    return gzip.compress(b"\xff\xd8\xff" + bytes(20_000_000), mtime=0)


class Moody:
    """Answers the n-th request for an address with the n-th status, then with the picture."""

    def __init__(self, body: bytes, *statuses: int, **headers: str) -> None:
        self.body, self.statuses, self.headers, self.times = body, list(statuses), headers, []

    def __call__(self, handler: Handler) -> None:
        self.times.append(time.monotonic())
        status = self.statuses.pop(0) if self.statuses else 200
        handler.reply(
            status,
            self.body if status == 200 else b"wait",
            **({} if status == 200 else self.headers),
        )


def chunked_cut(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"400\r\n" + bytes(100))
    handler.close_connection = True


PATIENT = Moody(picture(2), 429, Retry_After="1")
HTML = b"\n<!DOCTYPE html><html><body>Not here</body></html>"
PACKED = gzip.compress(picture(4), mtime=0)
# address -> (what the server does, status, what the reason says)
WEB = {
    "/fine.jpg": (picture(1), "ok", ""),
    "/again/fine.jpg": (picture(1), "ok", ""),
    "/no-suffix?id=7&x=%20": (picture(7, form="PNG"), "ok", ""),
    "/smörgås bord.jpg": (picture(8), "ok", ""),
    "/missing.jpg": (partial(Handler.reply, status=404), "gone", "HTTP 404"),
    "/gone.jpg": (partial(Handler.reply, status=410), "gone", "HTTP 410"),
    "/forbidden.jpg": (partial(Handler.reply, status=403), "failed", "HTTP 403"),
    "/patient.jpg": (PATIENT, "ok", ""),
    "/busy.jpg": (partial(Handler.reply, status=429), "failed", "HTTP 429"),
    "/never.jpg": (partial(Handler.reply, status=503, Retry_After="86400"), "failed", "HTTP 503"),
    "/moody.jpg": (Moody(picture(3), 500), "ok", ""),
    "/broken.jpg": (partial(Handler.reply, status=500), "failed", "HTTP 500"),
    "/loop.jpg": (partial(redirect, to="/loop.jpg"), "failed", "more than 3 redirects"),
    "/moved.jpg": (partial(redirect, to="/fine.jpg", status=301), "ok", ""),
    "/to-file.jpg": (
        partial(redirect, to="file:///etc/passwd"),
        "refused",
        "file is not http or https",
    ),
    "/to-garbage.jpg": (partial(redirect, to="http://[::bad"), "refused", "not an address"),
    "/to-a-far-port.jpg": (
        partial(redirect, to="http://127.0.0.1:99999/"),
        "refused",
        "not an address",
    ),
    "/to-a-long-name.jpg": (
        partial(redirect, to=f"http://{'a' * 70}.example/"),
        "gone",
        "does not resolve",
    ),
    "/long-header.jpg": (
        partial(Handler.reply, status=200, body=b"", X_Long="x" * 300_000),
        "failed",
        "not HTTP",
    ),
    "/to-nowhere.jpg": (partial(redirect, to=""), "failed", "more than 3 redirects"),
    "/page.jpg": (
        partial(Handler.reply, status=200, body=HTML, Content_Type="image/jpeg"),
        "not a picture",
        "html",
    ),
    "/answer.jpg": (b'{"error": "not found"}', "not a picture", "text/plain"),
    "/empty.jpg": (b"", "ok", ""),
    "/wait.jpg": (Moody(picture(10), 503, Retry_After="\u00b2"), "ok", ""),
    "/wait-long.jpg": (
        Moody(picture(11), 429, Retry_After="Wed, 21 Oct 20150000000000 07:28:00 GMT"),
        "ok",
        "",
    ),
    "/to-xn.jpg": (partial(redirect, to="http://xn--/x.jpg"), "refused", "not an address"),
    "/stall.jpg": (stall, "failed", "no answer for 1 s"),
    "/drip.jpg": (drip, "failed", "not finished within 2 s"),
    "/drip-headers.jpg": (drip_headers, "failed", "not finished within 2 s"),
    "/reset.jpg": (reset, "failed", "the connection broke off"),
    "/cut.jpg": (partial(declare, length=5000, body=picture(5)[:700]), "failed", "cut short"),
    "/cut-chunk.jpg": (chunked_cut, "failed", "cut short"),
    "/short-length.jpg": (partial(declare, length=300, body=picture(6)), "ok", ""),
    "/bad-length.jpg": (
        partial(Handler.reply, status=200, body=b"", Content_Length="many"),
        "failed",
        "not HTTP",
    ),
    "/giant.jpg": (
        partial(endless, size=1 << 30, headers={"Content-Length": str(1 << 30)}),
        "refused",
        "max_bytes",
    ),
    "/giant-unsaid.jpg": (partial(endless, size=1 << 30, headers={}), "refused", "max_bytes"),
    "/bomb.jpg": (
        partial(Handler.reply, status=200, body=bomb(), Content_Encoding="gzip"),
        "refused",
        "max_bytes",
    ),
    "/packed.jpg": (
        partial(Handler.reply, status=200, body=PACKED, Content_Encoding="gzip"),
        "ok",
        "",
    ),
    "/zlib.jpg": (
        partial(
            Handler.reply, status=200, body=zlib.compress(picture(9)), Content_Encoding="deflate"
        ),
        "ok",
        "",
    ),
    "/packed-cut.jpg": (
        partial(Handler.reply, status=200, body=PACKED[:-20], Content_Encoding="gzip"),
        "failed",
        "cut short",
    ),
    "/packed-badly.jpg": (
        partial(Handler.reply, status=200, body=b"not gzip", Content_Encoding="gzip"),
        "failed",
        "badly packed",
    ),
    "/brotli.jpg": (
        partial(Handler.reply, status=200, body=b"x", Content_Encoding="br"),
        "failed",
        "packed with br",
    ),
    "/garbage.jpg": (
        lambda handler: handler.wfile.write(b"I speak no HTTP\r\n\r\n"),
        "failed",
        "not HTTP",
    ),
}


def reply(handler: Handler, **keywords: object) -> None:
    handler.reply(**keywords)


def web() -> dict:
    answers = {}
    for path, (behaviour, _, _) in WEB.items():
        name = (
            path.partition("?")[0].replace("ö", "%C3%B6").replace("å", "%C3%A5").replace(" ", "%20")
        )
        if isinstance(behaviour, partial) and behaviour.func is Handler.reply:
            behaviour = partial(reply, **behaviour.keywords)
        answers[name] = behaviour
    return answers


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """One gathering from all of the web above: the rows by path, and the project after it."""
    world = World(tmp_path_factory.mktemp("hostile") / "project")
    with Server(web()) as server:
        addresses = [server.base + path for path in WEB]
        addresses += [
            "ftp://127.0.0.1/x.jpg",
            "data:image/png;base64,AAAA",
            "http://127.0.0.1:1/x.jpg",
            "http://[::bad/x",
        ]
        addresses += ["http://nobody.invalid/x.jpg", "http://xn--/x.jpg", "http://xn--a/x.jpg"]
        addresses += ["http:///x.jpg", "http://127.0.0.1:65536/x.jpg"]
        world.write("data/own/web.txt", "\n".join(addresses))
        world.write("data/own/other.txt", server.base + "/fine.jpg\n")
        world.use({"kind": "urls"})
        started = time.monotonic()
        world.run()
        took = time.monotonic() - started
    rows = {
        row["url"].removeprefix(server.base): row for row in world.table() if row["label"] == "web"
    }
    return {"rows": rows, "world": world, "took": took, "server": server}


@pytest.mark.parametrize("path", WEB)
def test_every_behaviour_of_a_server_ends_in_its_status(hostile: dict, path: str):
    _, status, reason = WEB[path]
    row = hostile["rows"][path]
    assert row["status"] == status, row
    assert reason in row["reason"]
    assert bool(row["sha256"]) == (status == "ok")


@pytest.mark.parametrize(
    ("url", "status", "reason"),
    [
        ("ftp://127.0.0.1/x.jpg", "refused", "ftp is not http or https"),
        ("data:image/png;base64,AAAA", "refused", "data is not http or https"),
        ("http://127.0.0.1:1/x.jpg", "failed", "no connection"),
        ("http://[::bad/x", "refused", "not an address"),
        ("http://xn--/x.jpg", "refused", "not an address"),
        ("http://xn--a/x.jpg", "refused", "not an address"),
        ("http:///x.jpg", "refused", "not an address"),
        ("http://127.0.0.1:65536/x.jpg", "refused", "not an address"),
        ("http://nobody.invalid/x.jpg", "gone", "does not resolve"),
    ],
)
def test_addresses_that_lead_nowhere_are_rows_too(
    hostile: dict, url: str, status: str, reason: str
):
    row = hostile["rows"][url]
    assert (row["status"], reason in row["reason"]) == (status, True), row


def test_the_run_ends_within_the_sum_of_the_time_outs(hostile: dict):
    """Two waves of eight downloads at most hang at a time. An upper bound, not a measurement."""
    once = (QUICK["retries"] + 1) * QUICK["total_timeout"] + QUICK["retries"] * QUICK["max_wait"]
    assert hostile["took"] < once * len(hostile["rows"])


def test_rows_keep_the_order_of_the_list_and_the_same_picture_is_stored_once(hostile: dict):
    rows = hostile["rows"]
    assert list(rows)[: len(WEB)] == list(WEB)
    assert (
        rows["/fine.jpg"]["path"] == rows["/again/fine.jpg"]["path"] == rows["/moved.jpg"]["path"]
    )
    assert rows["/no-suffix?id=7&x=%20"]["path"].endswith(".png")
    assert rows["/fine.jpg"]["type"] == "image/jpeg"


def test_nothing_but_whole_pictures_is_left(hostile: dict):
    world = hostile["world"]
    stored = {
        path.relative_to(world.path).as_posix()
        for path in (world.path / "data/raw").rglob("*")
        if path.is_file()
    }
    assert stored == {row["path"] for row in world.table() if row["path"]}
    assert not (world.path / "data/gather.partial").exists()
    content = (world.path / hostile["rows"]["/packed.jpg"]["path"]).read_bytes()
    assert content == picture(4)


def test_a_server_that_asks_for_patience_gets_it_and_knows_who_asks(hostile: dict):
    first, second = PATIENT.times
    assert second - first >= 1
    assert all("pawprint" in agent for agent in hostile["server"].agents)


def test_no_host_is_asked_for_more_than_per_host_at_a_time(tmp_path: Path):
    def slow(handler: Handler) -> None:
        handler.server.world.stopping.wait(0.02)
        handler.reply(200, picture(1))

    with Server({f"/{i}": slow for i in range(40)}) as server:
        options = DownloadParams(**QUICK | {"threads": 16, "per_host": 3})
        with Downloader(options, allow_private=True) as downloader:
            ended = []
            files = {f"{server.base}/{i}": tmp_path / str(i) for i in range(40)}
            downloader.fetch_all(files, lambda _, result: ended.append(result.status))
    assert ended == ["ok"] * 40
    assert server.most_busy <= 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("", 0),
        ("soon", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("²", 0),
        ("٣", 0),
        ("-1", 0),
        ("9" * 5000, float("inf")),
        ("Wed, 21 Oct 20150000000000 07:28:00 GMT", 0),
        ("Wed, 21 Oct 0001 07:28:00 +2359", 0),
        ("Wed, 99 Oct 2015 99:99:99 +9999", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float):
    assert seconds_to_wait(value) == seconds


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=60) | st.from_regex(r"\w+, \d+ Oct \d+ \d+:\d+:\d+ [+-]\d+"))
def test_no_retry_after_ends_in_a_traceback(value: str):
    assert seconds_to_wait(value) >= 0


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=60) | st.builds("http://{}{}".format, st.text(max_size=30), st.text()))
def test_every_text_is_an_address_or_is_refused(url: str):
    with contextlib.suppress(AddressRefused):
        assert httpcore_url(parse_address(url)).scheme in (b"http", b"https")


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=60))
def test_every_redirect_is_an_address_or_is_refused(target: str):
    with contextlib.suppress(AddressRefused):
        follow_redirect(httpx.URL("http://a.example/x"), target)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("user_agent", "Bär", "user_agent is 'Bär'; it should be ASCII letters, digits and signs"),
        ("user_agent", "a\nb", "it should be ASCII letters"),
        ("user_agent", " a", "it should be ASCII letters"),
        ("user_agent", "", "it should be ASCII letters"),
        ("connect_timeout", float("inf"), "it should be less than or equal to 86400"),
        ("max_wait", 1e300, "it should be less than or equal to 86400"),
        ("read_timeout", float("nan"), "gather.download.read_timeout is nan"),
        ("threads", 0, "it should be greater than or equal to 1"),
    ],
)
def test_a_setting_that_cannot_work_is_one_line(
    tmp_path: Path, key: str, value: object, message: str
):
    world = World(tmp_path / "project")
    world.params(download={key: value})
    assert message in world.refuse()


def test_an_error_that_nobody_thought_of_ends_its_address_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def request(self: Downloader, address: httpx.URL, *_: object) -> None:
        if address.path == "/odd":
            raise LookupError("what is\nthis")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Downloader, "request", request)
    with Downloader(DownloadParams(**QUICK), allow_private=True) as downloader:
        with pytest.raises(Failure, match="LookupError: what is this"):
            downloader.fetch("http://a.example/odd", tmp_path / "x")
        with pytest.raises(OSError, match="No space left"):
            downloader.fetch("http://a.example/full", tmp_path / "x")
