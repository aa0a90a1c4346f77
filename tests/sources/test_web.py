"""`pawprint predict --allow-urls`: pictures from public addresses, of bounded size and time."""

import http.server
import json
import socket
import threading
import time

import pytest

from pawprint.sources import network, web
from tests.support.commands import predict
from tests.support.exported import picture, write_export

PICTURE = picture("green")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        redirects = {
            "/moved": "/green.png",
            "/round": "/round",
            "/file": "file:///etc/passwd",
            "/inward": "http://10.0.0.1/",
            "/far": "http://127.0.0.1:99999/",
            "/odd": "http://münchen.invalid/ü",
        }
        if self.path in redirects:
            self.send_response(302)
            self.send_header("location", redirects[self.path])
            self.end_headers()
        elif self.path == "/green.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PICTURE)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(100_000))
            except OSError:
                pass
        elif self.path == "/drip":
            try:
                for _ in range(200):
                    self.wfile.write(b"H")
                    time.sleep(0.05)
            except OSError:
                pass
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def here_is_public(monkeypatch):
    """Let 127.0.0.1 pass for a public address: the rest of the rule stands."""
    right = network.is_public
    monkeypatch.setattr(
        network, "is_public", lambda address: address == "127.0.0.1" or right(address)
    )


def test_a_picture_comes_and_redirects_are_followed(site, here_is_public):
    assert web.fetch(f"{site}/green.png") == PICTURE
    assert web.fetch(f"{site}/moved") == PICTURE


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nothing", "the server answers 404"),
        ("/round", "more than 5 redirects"),
        ("/file", "file is not http or https"),
        ("/inward", "10.0.0.1, not a public address"),
        ("/far", "not an address"),
        ("/odd", "the name xn--mnchen-3ya.invalid does not resolve"),
        ("/endless", "larger than 1 MB"),
        ("/drip", "does not answer in time"),
    ],
)
def test_what_cannot_be_had_is_said(site, here_is_public, monkeypatch, path, words):
    monkeypatch.setattr(web, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(web, "SECONDS", 1)
    with pytest.raises(OSError, match=words):
        web.fetch(site + path)


def test_a_name_with_one_inner_address_is_refused(monkeypatch):
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
        for address in ("93.184.215.14", "127.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(OSError, match=r"two\.example is 127\.0\.0\.1, not a public address"):
        web.fetch("http://two.example/x.png")


def test_an_address_is_a_row_whether_it_may_be_fetched_or_not(tmp_path, site):
    write_export(tmp_path / "export")
    (tmp_path / "a.png").write_bytes(PICTURE)
    for flags, words in (
        ([], "--allow-urls fetches it"),
        (["--allow-urls"], "127.0.0.1, not a public address"),
    ):
        done = predict(
            tmp_path / "export",
            f"{site}/green.png",
            tmp_path / "a.png",
            "--format",
            "jsonl",
            *flags,
        )
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 1
        assert words in rows[0]["error"]
        assert rows[1]["label"] == "green"
