"""The guard of the servers: which names, pages and connections are answered."""

import resource
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pawprint.commands.review.api import create_app
from pawprint.commands.review.shelf import ProjectShelf
from pawprint.commands.serve import PROBES
from pawprint.commands.serve.app import make_app
from pawprint.commands.web import HEADERS, Access, host_name, is_loopback, listen
from pawprint.exporting.shipped.predict import Classifier
from tests.support.commands import ServerProcess, pawprint
from tests.support.exported import picture, write_export
from tests.support.project import ROOT


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("web") / "export")


@pytest.fixture(scope="module")
def classifier(export: Path) -> Classifier:
    return Classifier(export)


def client(classifier: Classifier, kept: list | None = None, **access: object) -> TestClient:
    """A client of `pawprint serve`; `kept` gets the pictures that are kept."""
    records = [] if kept is None else [lambda content, *rest: kept.append(content)]
    app = make_app(classifier, access=Access(probes=PROBES, **access), records=records)
    return TestClient(app, base_url="http://localhost:8000")


def status(client: TestClient, **headers: str) -> int:
    """Send a picture; the status of the answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/predict", content=picture("red"), headers=named).status_code


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:8000", "localhost"),
        ("localhost.:8000", "localhost"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]:8000", "::1"),
        ("bears.example.org:", "bears.example.org"),
        ("::1", ""),
        ("user@localhost", ""),
        ("localhost/evil", ""),
        ("", ""),
        ("[localhost]", ""),
    ],
)
def test_the_name_in_a_host_header(host: str, name: str):
    assert host_name(host) == name


def test_loopback_is_this_machine_alone():
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "localhost.evil.example", "")))


def test_a_name_that_a_stranger_can_own_is_not_answered(classifier: Classifier):
    """DNS rebinding: a page's own name may lead to this machine, and to a server on its network."""
    here, anywhere = client(classifier), client(classifier, loopback=False)
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io"):
        assert status(here, host=host) == 403
        assert status(anywhere, host=host) == 403
        assert here.get("/", headers={"host": host}).status_code == 403
    for host in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000"):
        assert status(here, host=host) == status(anywhere, host=host) == 200
    assert status(here, host="192.0.2.1:8000") == 403
    assert status(anywhere, host="192.0.2.1:8000") == 200


def test_a_page_of_another_site_can_put_no_picture_into_the_kept_ones(classifier: Classifier):
    kept: list[bytes] = []
    browser = client(classifier, kept)
    refused = (
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:3000"},  # another server on this machine
        {"origin": "null"},  # a sandboxed frame or a file
        {"origin": ""},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    )
    for headers in refused:
        assert status(browser, **headers) == 403, headers
    assert kept == []
    own = {"origin": "http://localhost:8000", "sec_fetch_site": "same-origin"}
    assert status(browser, **own) == 200
    assert status(browser) == 200, "programs send no Origin"
    assert len(kept) == 2


def test_a_proxy_s_name_is_answered_when_it_is_allowed(classifier: Classifier):
    named = client(classifier, names=frozenset({"bears.example.org"}))
    secure = "https://bears.example.org"
    assert status(named, host="bears.example.org", origin=secure) == 200
    assert status(named, host="127.0.0.1:8000", origin=secure) == 200, "the proxy has its own Host"
    assert status(named, host="other.example.org") == 403
    assert status(named, host="bears.example.org", origin="https://other.example.org") == 403


def test_probes_are_answered_under_any_name_and_pages_read_them_not(classifier: Classifier):
    here = client(classifier)
    for path in PROBES:
        assert here.get(path, headers={"host": "pawprint.pods.internal"}).status_code == 200
        assert here.get(path, headers={"origin": "http://evil.example"}).status_code == 403
    assert here.get("/model", headers={"host": "pawprint.pods.internal"}).status_code == 403


def test_a_refusal_says_what_to_do_and_repeats_nothing(export: Path):
    server = ServerProcess("serve", export, "--allow-host", "Bears.example.org")
    try:
        assert server.get("/model", host="bears.example.org").status_code == 200
        for odd in ("<script>.example", "[::1", "a:b:c", "http://localhost"):
            assert server.get("/model", host=odd).status_code == 403
            assert server.get("/model", origin=odd).status_code == 403
        refused = server.get("/model", host="cats.example.org")
        assert refused.status_code == 403
        assert "--allow-host NAME" in refused.json()["error"]
        assert "cats" not in refused.text
    finally:
        server.stop()
    for name in ("https://x", "*", "", "a:80"):
        done = pawprint("serve", export, "--allow-host", name)
        assert done.returncode == 2
        assert "should be a name such as bears.example.org" in done.stderr


def test_every_answer_has_the_security_headers_also_refusals_and_failures(classifier: Classifier):
    here = client(classifier)
    for answer in (
        here.get("/"),
        here.get("/theme.css"),
        here.get("/nowhere"),
        here.get("/", headers={"host": "evil.example"}),
        here.post("/predict", content=b"no picture"),
    ):
        assert HEADERS.items() <= dict(answer.headers).items()


def test_a_port_that_is_taken_is_said_in_one_line(export: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = pawprint("serve", export, "--port", port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"pawprint: cannot listen on 127.0.0.1, port {port}: ")
    assert done.stderr.count("\n") == 1
    done = pawprint("serve", export, "--host", "no.such.host.invalid", "--port", 0)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_small_answers_are_not_delayed():
    """asyncio sets TCP_NODELAY on what a socket accepts only if the socket names TCP.

    Without it, every answer on an open connection took 40 ms more.
    """
    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def few_files() -> None:
    """Let a process open 200 files, so that 300 connections are more than it can hold."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc",
    ],
    ids=["nothing", "half of the headers", "the beginning of a body"],
)
def test_many_connections_that_do_not_go_on_keep_nobody_out(export: Path, sent: bytes):
    server = ServerProcess("serve", export, before=few_files)
    try:
        with ExitStack() as held:

            def connect(_: int) -> socket.socket:
                connection = socket.create_connection(server.address, 10)
                with suppress(ConnectionError):  # it may be dropped already
                    connection.sendall(sent)
                return connection

            with ThreadPoolExecutor(50) as pool:
                for connection in pool.map(connect, range(300)):
                    held.enter_context(connection)
            for colour in ("red", "green", "blue"):
                started = time.monotonic()
                assert server.predict(picture(colour)).json()["label"] == colour
                assert time.monotonic() - started < 5
    finally:
        server.kill()


def test_a_client_that_sends_half_of_its_headers_is_dropped(export: Path):
    """Also after a whole request, when a byte now and then looks like a client that goes on."""
    code = (
        "import sys, pawprint.commands.web as web; web.REQUEST_SECONDS = 0.5;"
        "from pawprint.__main__ import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "serve", str(export), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline().split("/ ")[0].rsplit(":", 1)[1])
        try:
            whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for before in (b"", whole):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                    connection.sendall(before + b"GET / HTTP/1.1\r\nHo")
                    while connection.recv(1000):
                        pass  # the end of the connection, or a timeout that fails the test
        finally:
            process.kill()


def test_both_pages_have_the_look_of_the_report(classifier: Classifier, tmp_path: Path):
    theme = (ROOT / "pawprint/judging/theme.css").read_text()
    review = TestClient(create_app(ProjectShelf(tmp_path)), base_url="http://localhost")
    for page in (client(classifier), review):
        assert page.get("/theme.css").text == theme
        assert '<link rel="stylesheet" href="theme.css">' in page.get("/").text
        assert page.get("/paw.svg").headers["content-type"] == "image/svg+xml"
    assert '{% include "theme.css" %}' in (ROOT / "pawprint/judging/report.html.j2").read_text()
