"""`pawprint serve` over real HTTP: right answers, and nothing that a client sends brings it down."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from random import Random

import httpx
import pytest

from tests.conftest import ROOT
from tests.exported import picture, write_export

ALLOWED = {200, 400, 413, 415, 422, 503}


class Server:
    """A `pawprint serve` of its own on 127.0.0.1."""

    def __init__(self, export, *arguments: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "pawprint", "serve", str(export), "--port", str(port), *arguments]
        # not a pipe: nobody empties it, and a full one stops the server
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the object)
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self.log, stderr=subprocess.STDOUT)
        self.url = f"http://127.0.0.1:{port}"
        for _ in range(200):
            try:
                assert httpx.get(f"{self.url}/healthz").status_code == 200
                return
            except httpx.TransportError:
                assert self.process.poll() is None, self.said()
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def predict(self, content: bytes, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", content=content, headers=headers, timeout=30)

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        return self.said()

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Server(write_export(tmp_path_factory.mktemp("serve") / "export"), "--max-megabytes", "1")
    yield running
    running.stop()


def test_raw_bodies_and_forms_are_answered_alike(server):
    raw = server.predict(picture("green"))
    form = httpx.post(f"{server.url}/predict", files={"file": ("x.jpg", picture("green"))})
    assert raw.status_code == form.status_code == 200
    assert raw.json() == form.json()
    assert raw.json()["label"] == "green"
    assert sum(raw.json()["probabilities"].values()) == pytest.approx(1)


def test_what_is_no_picture_is_refused_with_a_reason(server):
    refused = {
        b"": 415,
        b"<html>": 415,
        b"%PDF-1.7": 415,
        picture("red", (300, 300))[:80]: 422,
    }
    for content, status in refused.items():
        answer = server.predict(content)
        assert answer.status_code == status, content
        assert answer.json()["error"]
    assert httpx.post(f"{server.url}/predict", files={}, data={"a": "b"}).status_code == 415
    assert httpx.post(f"{server.url}/predict", files={"x": (None, "text")}).status_code == 400
    assert server.predict(b"x", **{"content-type": "multipart/form-data"}).status_code == 400


def test_a_large_body_is_refused_while_it_comes(server):
    assert server.predict(b"\xff" * 1_100_000).status_code == 413


def test_a_decompression_bomb_is_refused_before_it_is_decoded(server):
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    data = b"IDAT" + zlib.compress(bytes(1000))

    def chunk(body: bytes) -> bytes:
        return (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(header) + chunk(data) + chunk(b"IEND")
    answer = server.predict(bomb)
    assert answer.status_code == 422
    assert "megapixels" in answer.json()["error"]


def test_other_paths_and_methods_are_refused_as_json_or_page(server):
    assert httpx.get(f"{server.url}/predict").status_code in (404, 405)
    assert httpx.get(f"{server.url}/../../etc/passwd").status_code == 404
    assert httpx.get(f"{server.url}/%2e%2e/cli.py").status_code == 404


def test_every_answer_carries_security_headers(server):
    for path in ("/", "/model", "/nowhere", "/page.js"):
        headers = httpx.get(server.url + path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_metrics_count_answers(server):
    before = httpx.get(f"{server.url}/metrics").text
    server.predict(picture("red"))
    after = httpx.get(f"{server.url}/metrics").text
    assert count(after) == count(before) + 1


def count(metrics: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith('pawprint_predictions_total{status="200"}')]
    return float(lines[0].split()[1]) if lines else 0


def test_two_thousand_malformed_bodies_give_no_server_error(server):
    random = Random(7)
    seeds = [picture("red", form=form) for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")]
    boundary = b"--x\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\n" + seeds[0] + b"\r\n--x--\r\n"

    def malformed(i: int) -> tuple[bytes, dict[str, str]]:
        if i % 5 == 0:
            return random.randbytes(random.randint(0, 400)), {}
        content = bytearray(boundary if i % 5 == 1 else random.choice(seeds))
        for _ in range(random.randint(1, 12)):
            content[random.randrange(len(content))] = random.randrange(256)
        kind = "multipart/form-data; boundary=x" if i % 5 == 1 else random.choice(["image/jpeg", "", "text/plain"])
        return bytes(content[: random.randint(1, len(content))]), {"content-type": kind}

    bodies = [malformed(i) for i in range(2000)]
    with httpx.Client(timeout=30) as client:
        codes = [client.post(f"{server.url}/predict", content=body, headers=kind).status_code for body, kind in bodies]
    assert set(codes) <= ALLOWED
    assert 503 not in codes
    assert server.predict(picture("blue")).json()["label"] == "blue"


def test_many_clients_at_once_get_right_answers_or_503(tmp_path):
    server = Server(write_export(tmp_path / "export"), "--queue", "2")
    colours = ["red", "green", "blue"] * 40
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda colour: server.predict(picture(colour, (900, 900))), colours))
    for colour, answer in zip(colours, answers, strict=True):
        assert answer.status_code in (200, 503)
        if answer.status_code == 200:
            assert answer.json()["label"] == colour
        else:
            assert answer.headers["retry-after"] == "1"
    assert {answer.status_code for answer in answers} == {200, 503}
    server.stop()


def test_a_stop_finishes_what_is_under_way_and_writes_no_file(tmp_path):
    export = write_export(tmp_path / "export")
    before = sorted(tmp_path.rglob("*"))
    server = Server(export)
    with ThreadPoolExecutor(4) as pool:
        under_way = [pool.submit(server.predict, picture("green", (1500, 1500))) for _ in range(4)]
        time.sleep(0.15)
        log = server.stop()
        codes = []
        for each in under_way:
            try:
                codes.append(each.result().status_code)
            except httpx.TransportError:
                codes.append(0)  # came after the door was closed
    assert server.process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in log
    assert set(codes) <= {200, 0}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not os.path.exists("/usr/bin/chromium"), reason="Debian's chromium is not installed")
def test_the_page_answers_a_chosen_picture_in_a_browser(server, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    (tmp_path / "green.png").write_bytes(picture("green"))
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        page = browser.new_page(viewport={"width": 390, "height": 844})
        problems = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto(server.url)
        page.set_input_files("#file", str(tmp_path / "green.png"))
        page.get_by_text("green, ").wait_for()
        assert page.locator("#bars li").count() == 3
        assert page.title() == "What is it?"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"no"})
        page.get_by_text("not a picture").wait_for()
        assert json.dumps(problems).count("Content Security Policy") == 0
        browser.close()
