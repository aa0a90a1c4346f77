"""The review page loses no decision and takes none from strangers."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from pawprint.commands.review import Decisions, create_app
from tests.support.commands import add_rows
from tests.support.project import ROOT

FROM_PAGE = {"x-pawprint": "review"}


def name(i: int) -> str:
    return f"{i:016x}"


def make_project(root: Path, pictures: int) -> Path:
    """A project after interpret and clean; every path leads to one of 12 pictures on disk."""
    splits = ("train", "valid", "test")
    split, said, errors = (
        ["path,label,group,split"],
        ["path,prediction,probability,loss"],
        ["path,suggestion,score"],
    )
    for i in range(pictures):
        path = f"data/images/{'ab'[i % 2]}/{name(i)}.jpg"
        split.append(f"{path},{'ab'[i % 2]},{name(i - i % 10 % 2)},{splits[i % 3]}")
        said.append(f"{path},a,{0.5 + i % 50 / 100},{i % 97 / 10}")
        errors.append(f"{path},b,{i % 89 / 89}")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if i < 12:
            Image.new("RGB", (90, 60), (i * 20, 120, 200 - i * 10)).save(root / path)
        else:
            os.link(root / f"data/images/{'ab'[i % 2]}/{name(i % 2)}.jpg", root / path)
    for file, lines in (("split", split), ("predictions", said), ("label_errors", errors)):
        (root / f"data/{file}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path, 12)


@pytest.fixture
def client(root: Path) -> TestClient:
    return TestClient(create_app(root, by="ada"), base_url="http://localhost:8008")


def decide(client: TestClient, i: int, action: str, label: str = "", **more: object):
    body = {"image": name(i), "action": action, "label": label, **more}
    return client.post("/api/decide", json=body, headers=FROM_PAGE)


def test_a_decision_is_in_the_file_at_once_sorted_a_row_an_image(client: TestClient, root: Path):
    decide(client, 5, "delete")
    decide(client, 2, "relabel", "b", note="a, with\na comma")
    decide(client, 5, "keep")
    assert (root / "data/decisions.csv").read_text() == (
        f'image,action,label,by,note\n{name(2)},relabel,b,ada,"a, with a comma"\n{name(5)},keep,,ada,\n'
    )
    assert client.get("/api/state").json()["decisions"][name(2)]["label"] == "b"


def test_undo_takes_back_ones_own_decision_and_nobody_elses(client: TestClient, root: Path):
    first = decide(client, 1, "delete").json()
    decide(client, 1, "keep")
    refused = decide(client, 1, "", expected=first["now"])
    assert refused.status_code == 400
    assert "decided anew elsewhere" in refused.text
    assert Decisions(root / "data/decisions.csv").read()[name(1)]["action"] == "keep"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"image": "../../etc/passwd", "action": "keep"}, "16 hexadecimal digits"),
        ({"image": name(99), "action": "keep"}, "not in data/split.csv"),
        ({"image": name(1), "action": "burn"}, "it should be keep, delete, relabel"),
        ({"image": name(1), "action": "relabel", "label": "cat"}, "it should be one of a, b"),
        ([], "should be a JSON object"),
    ],
)
def test_nonsense_is_refused_with_a_reason(
    client: TestClient, root: Path, body: object, reason: str
):
    answer = client.post("/api/decide", json=body, headers=FROM_PAGE)
    assert answer.status_code == 400
    assert reason in answer.text
    assert not (root / "data/decisions.csv").exists()


def test_other_sites_can_neither_read_nor_write(client: TestClient, root: Path):
    assert client.get("/api/state", headers={"host": "evil.example"}).status_code == 403
    body = {"image": name(1), "action": "delete"}
    assert client.post("/api/decide", json=body).status_code == 403
    assert (
        client.post(
            "/api/decide", json=body, headers={**FROM_PAGE, "origin": "http://evil.example"}
        ).status_code
        == 403
    )
    assert not (root / "data/decisions.csv").exists()
    assert client.get("/picture/..%2f..%2fparams.yaml").status_code in (400, 404)


def test_elsewhere_than_loopback_the_token_is_asked_for(root: Path):
    client = TestClient(create_app(root, token="secret"), base_url="http://192.0.2.1:8008")
    assert client.get("/").status_code == 403
    assert client.get("/?token=wrong").status_code == 403
    assert client.get("/?token=secret").status_code == 200
    assert client.get("/api/state").status_code == 200, "the cookie carries it from there"


def test_the_page_says_what_clean_found_and_how_far_a_picture_lies(client: TestClient, root: Path):
    (root / "data/label_errors.csv").write_text(
        f"path,score,distance\ndata/images/a/{name(0)}.jpg,0.1,0.75\n"
    )
    (root / "data/findings.csv").write_text(
        "path,action,reason\n"
        f"data/images/a/{name(0)}.jpg,delete,near duplicate: of {name(2)}\n"
        f"data/images/b/{name(1)}.jpg,delete,decision: blurred\n"
    )
    first, second, third = client.get("/api/state").json()["pictures"][:3]
    assert (first["distance"], first["finding"]) == (0.75, f"delete, near duplicate: of {name(2)}")
    assert (second["finding"], third["distance"], third["finding"]) == ("", None, "")


def test_processes_and_threads_writing_at_once_lose_nothing(root: Path):
    path = root / "data/decisions.csv"
    code = "import sys; from pathlib import Path; from tests.support.commands import add_rows;"
    code += "add_rows(Path(sys.argv[1]), int(sys.argv[2]))"
    others = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(n)], cwd=ROOT)
        for n in (100, 200)
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda start: add_rows(path, start), (300, 400)))
    assert [process.wait() for process in others] == [0, 0]
    assert len(Decisions(path).read()) == 100


def serve(root: Path, port: int = 0) -> tuple[subprocess.Popen, str]:
    command = [
        sys.executable,
        "-m",
        "pawprint",
        "review",
        str(root),
        "--port",
        str(port),
        "--by",
        "ada",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().split()[1]


def test_in_a_real_browser_nothing_is_lost(browser, tmp_path: Path):
    root = make_project(tmp_path, 5000)
    server, address = serve(root)
    decisions = Decisions(root / "data/decisions.csv")
    try:
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#grid li.on")
        assert page.locator("#grid li").count() < 100, "only what is in sight is in the document"
        first = page.locator("#grid li.on").get_attribute("data-image")
        page.keyboard.press("d")
        page.wait_for_selector(f"#p{first}.delete")
        assert decisions.read()[first]["action"] == "delete"
        second = page.locator("#grid li.on").get_attribute("data-image")
        page.keyboard.press("2")
        page.wait_for_selector(f"#p{second}.relabel")
        page.keyboard.press("u")
        page.wait_for_selector(f"#p{second}:not(.relabel)")
        assert second not in decisions.read()
        page.select_option("#split", "valid")
        page.select_option("#order", "pairs")
        page.reload()
        page.wait_for_selector("#grid li.on")
        assert page.input_value("#order") == "pairs"
        assert page.input_value("#split") == "valid"
        other = browser.new_page()
        other.goto(address)
        other.click("#grid li >> nth=3")
        third = other.locator("#grid li.on").get_attribute("data-image")
        other.click("button[data-action=keep]")
        other.wait_for_selector(f"#p{third}.keep")
        server.kill()
        server.wait()
        page.keyboard.press("k")
        page.wait_for_selector("#toast:not([hidden])")
        assert "Not saved" in page.inner_text("#toast")
        server, _ = serve(root, port=int(address.rstrip("/").rsplit(":", 1)[1]))
        page.reload()
        page.wait_for_selector("#count:has-text('2 decided')")
        page.select_option("#split", "")
        page.select_option("#order", "name")
        page.keyboard.press("Escape")
        page.locator("#grid").focus()
        page.keyboard.press("End")
        page.wait_for_selector("#grid li.on[aria-posinset='5000']")
        assert {first, third} == set(decisions.read())
        phone = browser.new_page(viewport={"width": 360, "height": 740})
        phone.goto(address)
        phone.wait_for_selector("#grid li.on")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 360
        assert not problems
    finally:
        server.kill()
        server.wait()


def test_a_note_is_kept_with_the_decision(browser, root: Path):
    server, address = serve(root)
    decisions = Decisions(root / "data/decisions.csv")
    try:
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto(address)
        page.wait_for_selector("#grid li.on")
        first = page.locator("#grid li.on").get_attribute("data-image")
        page.keyboard.press("n")
        page.keyboard.type("dark, but kept")  # d and k are keys elsewhere
        page.evaluate("refresh()")
        page.keyboard.press("Enter")
        assert decisions.read() == {}, "a note alone decides nothing"
        page.keyboard.press("k")
        page.wait_for_selector(f"#p{first}.keep")
        assert decisions.read()[first]["note"] == "dark, but kept"
        second = page.locator("#grid li.on").get_attribute("data-image")
        assert second != first
        assert page.input_value("#note") == "", "the next picture has a note of its own"
        page.keyboard.press("ArrowLeft")
        assert page.input_value("#note") == "dark, but kept"
        page.fill("#note", "really a dog")
        page.press("#note", "Enter")
        page.wait_for_selector(f"#p{second}.on")
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector("#about:has-text('really a dog')")
        assert decisions.read()[first] == {
            "image": first, "action": "keep", "label": "", "by": "ada", "note": "really a dog",
        }  # fmt: skip
        page.keyboard.press("u")
        page.wait_for_selector("#about:has-text('dark, but kept')")
        assert page.input_value("#note") == "dark, but kept"
    finally:
        server.kill()
        server.wait()
