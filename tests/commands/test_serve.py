"""`pawprint serve` over real HTTP: right answers, whatever else clients send."""

import asyncio
import io
import os
import signal
import socket
import tempfile
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies
from PIL import Image
from starlette.testclient import TestClient

from benchmarks.serve import Run, memory
from pawprint.commands.nearest import find_known
from pawprint.commands.serve.app import Limits, make_app
from pawprint.exporting.shipped.predict import Classifier
from pawprint.pictures.formats import SUFFIXES_OF
from tests.support.commands import ServerProcess, pawprint
from tests.support.exported import picture, write_export
from tests.support.phone import heic

POST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
ALLOWED = {200, 400, 413, 415, 422, 503}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    export = write_export(tmp_path_factory.mktemp("serve") / "export")
    running = ServerProcess("serve", export, "--max-megabytes", 1)
    yield running
    running.stop()


def test_raw_bodies_and_forms_are_answered_alike(server):
    raw = server.predict(picture("green"))
    form = server.post("/predict", files={"file": ("x.jpg", picture("green"))})
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
    assert server.post("/predict", files={}, data={"a": "b"}).status_code == 415
    assert server.post("/predict", files={"x": (None, "text")}).status_code == 400
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
    assert server.get("/predict").status_code in (404, 405)
    assert server.get("/../../etc/passwd").status_code == 404
    assert server.get("/%2e%2e/web.py").status_code == 404


def test_every_answer_carries_security_headers(server):
    for path in ("/", "/model", "/nowhere", "/page.js"):
        headers = server.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_metrics_count_answers(server):
    before = server.get("/metrics").text
    server.predict(picture("red"))
    after = server.get("/metrics").text
    assert count(after) == count(before) + 1


def count(metrics: str) -> float:
    lines = [
        line
        for line in metrics.splitlines()
        if line.startswith('pawprint_predictions_total{status="200"}')
    ]
    return float(lines[0].split()[1]) if lines else 0


SEEDS = [picture("red", form=form) for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")]
FORM = (
    b"--x\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\n"
    + SEEDS[0]
    + b"\r\n--x--\r\n"
)


@strategies.composite
def malformed(draw) -> tuple[bytes, str]:
    """A body and its content type: random bytes, or a picture or form, changed and cut off."""
    kind = draw(
        strategies.sampled_from(
            ["multipart/form-data; boundary=x", "multipart/form-data", "image/jpeg", "", "a/b;c"]
        )
    )
    if draw(strategies.integers(0, 4)) == 0:
        return draw(strategies.binary(max_size=400)), kind
    content = bytearray(draw(strategies.sampled_from([*SEEDS, FORM])))
    places = strategies.tuples(
        strategies.integers(0, len(content) - 1), strategies.integers(0, 255)
    )
    for place, value in draw(strategies.lists(places, min_size=1, max_size=12)):
        content[place] = value
    return bytes(content[: draw(strategies.integers(1, len(content)))]), kind


def test_two_thousand_malformed_bodies_give_no_server_error(server):
    codes = Counter()

    @settings(
        max_examples=2000,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(malformed())
    def try_one(sent: tuple[bytes, str]) -> None:
        body, kind = sent
        answer = client.post(f"{server.url}/predict", content=body, headers={"content-type": kind})
        codes[answer.status_code] += 1
        assert answer.status_code in ALLOWED - {503}
        assert answer.status_code == 200 or answer.json()["error"]

    with httpx.Client(timeout=60) as client:
        try_one()
    assert codes.total() >= 2000
    assert {200, 400, 415, 422} <= set(codes)
    assert server.predict(picture("blue")).json()["label"] == "blue"


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 9\r\nContent-Length: 5\r\n\r\nabcde",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /predict HTTP/9.9\r\n\r\n",
        POST + b"Content-Type: multipart/form-data; boundary=\xff\r\n\r\n",
        b"\x00" * 50 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_malformed_requests_give_no_server_error(server, request_):
    with socket.create_connection(server.address, timeout=60) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(100)
    assert not answer or answer.startswith(b"HTTP/1.1 4"), answer
    assert server.get("/healthz").status_code == 200


def test_many_clients_at_once_get_right_answers_or_503(tmp_path):
    server = ServerProcess("serve", write_export(tmp_path / "export"), "--queue", "2")
    colours = ["red", "green", "blue"] * 40
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda colour: server.predict(picture(colour, (900, 900))), colours)
        )
    for colour, answer in zip(colours, answers, strict=True):
        assert answer.status_code in (200, 503)
        if answer.status_code == 200:
            assert answer.json()["label"] == colour
        else:
            assert answer.headers["retry-after"] == "1"
    assert {answer.status_code for answer in answers} == {200, 503}
    server.stop()


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--port", "99999"), ("--port", "x"), ("--queue", "0"), ("--max-megabytes", "-1")],
)
def test_an_impossible_number_is_refused(flag, value):
    done = pawprint("serve", "export", flag, value)
    assert done.returncode == 2
    assert f"argument {flag}: " in done.stderr
    assert value in done.stderr.splitlines()[-1]


def test_a_body_that_never_comes_gives_up_its_place(tmp_path):
    """Else a few clients that send nothing could fill the queue for good."""
    limits = Limits(queue=1, patience=0.1)
    app = make_app(Classifier(write_export(tmp_path / "export")), limits)
    sent = []

    async def receive() -> dict:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
        "root_path": "",
    }
    for _ in range(2):
        asyncio.run(app(scope, receive, send))
    assert [message["status"] for message in sent if "status" in message] == [408, 408]


def test_bodies_that_come_slowly_take_nobody_s_place_in_the_queue(tmp_path):
    server = ServerProcess("serve", write_export(tmp_path / "export"), "--queue", 1)
    with ExitStack() as held:
        for _ in range(5):
            connection = held.enter_context(socket.create_connection(server.address, 60))
            connection.sendall(POST + b"Content-Length: 1000\r\n\r\nthe beginning")
        while "pawprint_predictions_waiting 5.0" not in server.get("/metrics").text:
            time.sleep(0.05)  # it reads all five
        assert server.predict(picture("green")).json()["label"] == "green"
    server.stop()


def test_when_bodies_fill_the_memory_the_slowest_is_given_up(tmp_path):
    """Of 2 MB in all, the first body holds 0.9 MB and does not go on; the others fit beside it."""
    export = write_export(tmp_path / "export")
    server = ServerProcess("serve", export, "--queue", 2, "--max-megabytes", 1)
    with ExitStack() as held:
        connections = []
        for waiting in (1, 2, 3):
            connection = held.enter_context(socket.create_connection(server.address, 60))
            connection.sendall(POST + b"Content-Length: 950000\r\n\r\n" + b"x" * 900_000)
            connections.append(connection)
            while waiting < 3 and (
                f"pawprint_predictions_waiting {waiting}.0" not in server.get("/metrics").text
            ):
                time.sleep(0.05)
        assert connections[0].recv(100).startswith(b"HTTP/1.1 503 ")
        connections[2].sendall(b"x" * 50_000)
        assert connections[2].recv(100).startswith(b"HTTP/1.1 415 ")
        assert server.predict(picture("green")).json()["label"] == "green"
    server.stop()


def test_a_form_of_any_size_stays_in_memory(tmp_path, monkeypatch):
    app = make_app(Classifier(write_export(tmp_path / "export")))
    client = TestClient(app, base_url="http://localhost")
    content = picture("green", (1500, 1500), "BMP")
    assert len(content) > 5_000_000

    def write(*arguments: object, **options: object) -> None:
        raise AssertionError("a temporary file")

    monkeypatch.setattr(tempfile, "TemporaryFile", write)
    answer = client.post("/predict", files={"file": ("x.bmp", content)})
    assert answer.json()["label"] == "green"


@pytest.mark.parametrize("form", [form for form in SUFFIXES_OF if form in Image.SAVE])
def test_every_format_that_gather_takes_is_answered(server, form):
    known = Image.registered_extensions()
    assert known[SUFFIXES_OF[form][0]] in (form, "DIB")
    answer = server.predict(picture("green", (64, 64), form))
    assert answer.json()["label"] == "green", answer.text


def test_a_stop_finishes_what_is_under_way_and_writes_no_file(tmp_path):
    export = write_export(tmp_path / "export")
    before = sorted(tmp_path.rglob("*"))
    server, body = ServerProcess("serve", export), picture("green", (1500, 1500))
    head = POST + f"Content-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(server.address, timeout=60) as connection:
        connection.sendall(head + body[:100])
        while "pawprint_predictions_waiting 1.0" not in server.get("/metrics").text:
            time.sleep(0.05)  # it reads our picture
        server.process.send_signal(signal.SIGTERM)
        while server.accepts():
            time.sleep(0.05)
        connection.sendall(body[100:])
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"label":"green"' in answer
    log = server.stop()
    assert server.process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in log
    assert sorted(tmp_path.rglob("*")) == before


def test_a_stop_does_not_wait_for_ever(tmp_path):
    server = ServerProcess("serve", write_export(tmp_path / "export"))
    with socket.create_connection(server.address, timeout=60) as connection:
        connection.sendall(POST + b"Content-Length: 1000\r\n\r\nand no more")
        while "pawprint_predictions_waiting 1.0" not in server.get("/metrics").text:
            time.sleep(0.05)
        server.stop()  # gives up after 30 seconds, the server after 10


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_ten_thousand_requests_leave_memory_flat_and_get_no_wrong_answer(tmp_path):
    server = ServerProcess("serve", write_export(tmp_path / "export"))
    bodies = [picture(colour, (120, 90)) for colour in ("red", "green", "blue")]
    known = [server.predict(body).json() for body in bodies]

    async def ask(n: int) -> Run:
        run = Run(server.address[1], bodies, known)
        await asyncio.gather(*(run.client(float("inf"), n, malformed=10) for _ in range(8)))
        return run

    asyncio.run(ask(500))
    before = memory(server.process.pid)
    run = asyncio.run(ask(10_000))
    assert memory(server.process.pid) - before < 10
    assert run.wrong == 0
    assert run.codes == {200: 9000, 415: 800, 422: 200}
    server.stop()


def test_the_page_answers_a_chosen_picture_in_a_browser(browser, server, tmp_path):
    (tmp_path / "green.png").write_bytes(picture("green"))
    page = browser.new_page(viewport={"width": 390, "height": 844})
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.goto(server.url)
    page.get_by_text("red, green or blue?").wait_for()
    page.set_input_files("#file", str(tmp_path / "green.png"))
    page.locator("#answer", has_text="green").wait_for()
    assert page.locator("#shares li").count() == 3
    assert page.locator("#problem").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not problems
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"no"})
    page.locator("#problem", has_text="Not a picture").wait_for()
    assert page.locator("#result").is_hidden()
    page.set_input_files("#file", {"name": "x.png", "mimeType": "", "buffer": b"x" * 1_000_001})
    page.locator("#problem", has_text="larger than 1 MB").wait_for()
    page.set_input_files("#file", {"name": "x", "mimeType": "", "buffer": picture("black")})
    page.locator("#answer", has_text="None of these").wait_for()
    assert not [each for each in problems if "Content Security Policy" in each]


def test_a_preview_is_a_small_jpeg_of_any_format_and_refused_as_a_question_is(server):
    answer = server.post("/preview", content=heic(Image.new("RGB", (900, 600), "red")))
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == ("JPEG", (640, 427))
        assert image.getpixel((300, 200))[0] > 240
    for content, status in ((b"", 415), (b"<html>", 415), (bytes(1_100_000), 413)):
        assert server.post("/preview", content=content).status_code == status
    assert server.get("/preview").status_code in (404, 405)


def test_the_page_shows_and_answers_a_picture_that_the_browser_cannot_show(browser, server):
    page = browser.new_page()
    page.goto(server.url)
    page.get_by_text("red, green or blue?").wait_for()
    content = heic(Image.new("RGB", (120, 80), (0, 255, 0)))
    page.set_input_files("#file", {"name": "IMG_1.HEIC", "mimeType": "", "buffer": content})
    page.locator("#answer", has_text="green").wait_for()
    page.wait_for_function("document.getElementById('preview').naturalWidth === 120")
    assert page.locator("#preview").is_visible()
    page.set_input_files("#file", {"name": "x.heic", "mimeType": "", "buffer": b"no"})
    page.locator("#problem", has_text="Not a picture").wait_for()
    page.locator("#hint").wait_for()
    assert page.locator("#preview").is_hidden()


def test_the_page_takes_a_pasted_and_a_dropped_picture(browser, server):
    page = browser.new_page()
    # Playwright does not wait until the browser has taken this in, nor does expect_file_chooser;
    # it has when it answers what is asked after it, here about the page.
    chosen = {"name": "x", "mimeType": "image/png", "buffer": picture("green")}
    page.on("filechooser", lambda chooser: chooser.set_files(chosen))
    page.goto(server.url)
    page.get_by_text("red, green or blue?").wait_for()
    send = """([content, how]) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(content)], "x.png", {type: "image/png"}));
        const paste = () => new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
        const drop = () => new DragEvent("drop", {dataTransfer: data, bubbles: true});
        const event = how === "paste" ? paste() : drop();
        document.getElementById("drop").dispatchEvent(event);
    }"""
    for how, colour in (("paste", "red"), ("drop", "blue")):
        page.evaluate(send, [list(picture(colour)), how])
        page.locator("#answer", has_text=colour).wait_for()
    # by keyboard alone
    page.keyboard.press("Tab")
    page.locator("#choose:focus").wait_for()
    page.keyboard.press("Enter")
    page.locator("#answer", has_text="green").wait_for()


def test_answers_say_why_and_show_training_pictures_that_are_at_hand(tmp_path):
    export = write_export(tmp_path / "export", explain=True)
    near = tmp_path / "data/images/red/red_picture.jpg"
    near.parent.mkdir(parents=True)
    near.write_bytes(picture("red", (300, 200), "JPEG"))
    (near.parent / "secret.jpg").write_bytes(picture("red"))
    classifier = Classifier(export)
    known = find_known(classifier, export)
    client = TestClient(make_app(classifier, known=known), base_url="http://localhost")
    answer = client.post("/predict", content=picture("red")).json()
    assert answer["nearest"][0] == {"picture": "red_picture", "label": "red", "similarity": 1.0}
    assert max(map(max, answer["heat"])) == 1
    assert client.get("/model").json()["thumbnails"]
    shown = client.get("/nearest/red_picture")
    assert shown.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(shown.content)) as image:
        assert image.size == (144, 144)
    # one that is not at hand, one of the project that the model does not name, and a way out
    for name in ("green_picture", "secret", "..%2fsecret", "%2e%2e"):
        assert client.get(f"/nearest/{name}").status_code == 404
