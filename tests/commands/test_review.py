"""The review page loses no decision and takes none from strangers."""

import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from pawprint.commands.review.api import create_app
from pawprint.commands.review.shelf import ProjectShelf
from pawprint.state import read_decisions
from tests.support.commands import ServerProcess, add_rows
from tests.support.commands import picture_id as name
from tests.support.project import ROOT
from tests.support.review import make_project

FROM_PAGE = {"x-pawprint": "review"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path, 12)


@pytest.fixture
def client(root: Path) -> TestClient:
    return TestClient(create_app(ProjectShelf(root), by="ada"), base_url="http://localhost:8008")


def decide(client: TestClient, i: int, action: str, label: str = "", **more: object):
    body = {"images": [name(i)], "action": action, "label": label, **more}
    return client.post("/api/decide", json=body, headers=FROM_PAGE)


def undo(client: TestClient, change: dict):
    body = {key: change[key] for key in ("images", "before", "now")}
    return client.post("/api/undo", json=body, headers=FROM_PAGE)


def shown(client: TestClient, **query: object) -> list[dict]:
    """The pictures of a page, ordered by name unless told."""
    answer = client.get("/api/pictures", params={"order": "name", "limit": 500, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()["pictures"]


def by_name(client: TestClient) -> dict[str, dict]:
    return {picture["image"]: picture for picture in shown(client)}


def test_a_decision_is_in_the_file_at_once_sorted_a_row_an_image(client: TestClient, root: Path):
    decide(client, 5, "delete")
    decide(client, 2, "relabel", "b", note="a, with\na comma")
    decide(client, 5, "keep")
    assert (root / "data/decisions.csv").read_text() == (
        "image,action,label,by,note\n"
        f'{name(2)},relabel,b,ada,"a, with a comma"\n'
        f"{name(5)},keep,,ada,\n"
    )
    assert by_name(client)[name(2)]["decision"]["label"] == "b"


def test_undo_takes_back_ones_own_decision_and_nobody_elses(client: TestClient, root: Path):
    first = decide(client, 1, "delete").json()
    decide(client, 1, "keep")
    refused = undo(client, first)
    assert refused.status_code == 409
    assert "decided again elsewhere" in refused.json()["error"]
    assert read_decisions(root / "data/decisions.csv")[name(1)]["action"] == "keep"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"image": "../../etc/passwd", "action": "keep"}, "not in data/split.csv"),
        ({"image": name(99), "action": "keep"}, "not in data/split.csv"),
        ({"image": name(1), "action": "burn"}, "action should be keep, delete, relabel"),
        (
            {"image": name(1), "action": "relabel", "label": "cat"},
            "'cat'; it should be a, b",
        ),
        ({"image": name(1), "action": "keep", "note": "a\0b"}, "note should be text"),
        ({"image": name(1), "action": "keep", "note": "\ud800"}, "note should be text"),
        ({"images": name(1), "action": "keep"}, "images should be a list"),
        ({"images": [name(1), 2], "action": "keep"}, "images should be a list"),
        ({"images": [name(1), name(99)], "action": "keep"}, "not in data/split.csv"),
        ({"images": [name(1)] * 10_001, "action": "keep"}, "at most 10,000 pictures at once"),
        ([], "should be a JSON object"),
    ],
)
def test_nonsense_is_refused_with_a_reason(
    client: TestClient, root: Path, body: object, reason: str
):
    answer = client.post("/api/decide", content=json.dumps(body), headers=FROM_PAGE)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert not (root / "data/decisions.csv").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"before": {name(1): {"action": 1}}}, "before should hold decisions"),
        ({"before": {name(1): {"action": "burn"}}}, "before should hold an action"),
        ({"now": [name(1)]}, "now should hold decisions"),
        ({"images": [name(99)]}, "not in data/split.csv"),
    ],
)
def test_an_undo_of_nonsense_is_refused_with_a_reason(
    client: TestClient, root: Path, changes: dict, reason: str
):
    answer = undo(client, {"images": [name(1)], "before": {}, "now": {}} | changes)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert not (root / "data/decisions.csv").exists()


def test_several_are_decided_in_one_write_and_undone_together_or_not_at_all(
    client: TestClient, root: Path
):
    path = root / "data/decisions.csv"
    decide(client, 3, "delete", note="blurred")
    body = {"images": [name(i) for i in (1, 3, 5)], "action": "relabel", "label": "b"}
    change = client.post("/api/decide", json=body, headers=FROM_PAGE).json()
    assert {one["label"] for one in read_decisions(path).values()} == {"b"}
    assert (change["status"]["decided"], len(change["now"])) == (3, 3)
    decide(client, 5, "keep")
    assert undo(client, change).status_code == 409
    assert len(read_decisions(path)) == 3, "nothing is undone if one of them cannot be"
    decide(client, 5, "relabel", "b")
    assert undo(client, change).status_code == 200
    left = read_decisions(path)
    assert [(one["image"], one["action"], one["note"]) for one in left.values()] == [
        (name(3), "delete", "blurred")
    ]


def test_a_page_holds_what_is_asked_for_and_no_more(tmp_path: Path):
    client = TestClient(
        create_app(ProjectShelf(make_project(tmp_path, 700))), base_url="http://localhost:8008"
    )
    state = client.get("/api/state")
    assert (state.json()["pictures"], len(state.content) < 3000) == (700, True)
    query = {"order": "loss", "label": "a", "limit": 40}
    first = client.get("/api/pictures", params=query).json()
    second = client.get("/api/pictures", params={**query, "offset": 40}).json()
    losses = [one["loss"] for one in first["pictures"] + second["pictures"]]
    assert (first["total"], len(losses)) == (350, 80)
    assert losses == sorted(losses, reverse=True)
    assert {one["label"] for one in first["pictures"]} == {"a"}
    kept = second["pictures"][7]["image"]
    page = client.get("/api/pictures", params={**query, "keep": kept}).json()
    assert (page["place"], page["offset"]) == (47, 40)
    assert len(shown(client, limit=100_000)) == 500
    assert shown(client, offset=700) == []
    decide(client, 4, "keep")
    assert [one["image"] for one in shown(client, show="decided")] == [name(4)]
    assert len(client.get("/api/names", params={"show": "open"}).json()["images"]) == 699
    for wrong in ({"order": "beauty"}, {"offset": "-1"}, {"limit": "x"}):
        assert client.get("/api/pictures", params=wrong).status_code == 400


def test_other_sites_can_neither_read_nor_write(client: TestClient, root: Path):
    evil = {"origin": "http://evil.example"}
    assert client.get("/api/state", headers={"host": "evil.example"}).status_code == 403
    body = {"image": name(1), "action": "delete"}
    assert client.post("/api/decide", json=body).status_code == 403
    assert client.post("/api/decide", json=body, headers=FROM_PAGE | evil).status_code == 403
    assert not (root / "data/decisions.csv").exists()
    assert client.get("/picture/..%2f..%2fparams.yaml").status_code in (400, 404)


def test_elsewhere_than_loopback_the_token_is_asked_for(root: Path):
    client = TestClient(
        create_app(ProjectShelf(root), token="secret"), base_url="http://192.0.2.1:8008"
    )
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
    pictures = by_name(client)
    first, second, third = (pictures[name(i)] for i in range(3))
    assert (first["distance"], first["finding"]) == (0.75, f"delete, near duplicate: of {name(2)}")
    assert (second["finding"], third["distance"], third["finding"]) == ("", None, "")


def add_faults(root: Path) -> None:
    """What verify and clean say about pictures 1, 2 and 4, and about class a."""
    faults = {1: ("dark", 0.2), 2: ("odd_size", 0.7), 4: ("blurry low_information", 0.4)}
    lines = ["path,faults,severity"]
    for i in range(12):
        kinds, severity = faults.get(i, ("", 0))
        lines.append(f"data/images/{'ab'[i % 2]}/{name(i)}.jpg,{kinds},{severity}")
    (root / "data/properties.csv").write_text("\n".join(lines) + "\n")
    blurred = f"data/images/a/{name(4)}.jpg,a,flag"
    (root / "data/findings.csv").write_text(
        "path,label,action,reason\n"
        ',a,flag,"correlation with brightness: 96 % of a are dark, and 3 % of the others"\n'
        f"{blurred},blurry picture: sharpness 0.10\n"
        f"{blurred},low information: 0.20\n"
    )


def test_the_page_gets_every_fault_of_a_picture_and_what_goes_with_a_whole_class(
    client: TestClient, root: Path
):
    assert client.get("/api/state").json()["correlations"] == []
    add_faults(root)
    state = client.get("/api/state").json()
    assert state["correlations"] == [
        "correlation with brightness: 96 % of a are dark, and 3 % of the others"
    ]
    fifth = by_name(client)[name(4)]
    assert (fifth["faults"], fifth["severity"]) == ("blurry, low information", 0.4)
    assert fifth["finding"] == "flag, blurry picture: sharpness 0.10; flag, low information: 0.20"
    assert (by_name(client)[name(0)]["faults"], by_name(client)[name(0)]["finding"]) == ("", "")


def test_the_order_picture_faults_shows_the_faulty_ones_the_worst_first(browser, root: Path):
    add_faults(root)
    server = ServerProcess("review", root)
    try:
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto(server.url)
        page.wait_for_selector("#grid li.on")
        assert page.locator("#classwide").is_hidden()
        page.select_option("#order", "faults")
        page.wait_for_selector("#count:has-text('3 of 12 pictures')")
        tiles = page.locator("#grid li")
        shown = [tiles.nth(i).get_attribute("data-image") for i in range(3)]
        assert shown == [name(2), name(4), name(1)]
        assert "blurry, low information" in tiles.nth(1).inner_text()
        assert "96 % of a are dark" in page.inner_text("#classwide")
        page.keyboard.press("d")
        page.wait_for_selector(f"#p{name(2)}.delete")
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.select_option("#order", "loss")
        assert page.locator("#classwide").is_hidden()
    finally:
        server.kill()


FIVE = [
    f"{name(0)},keep,,bob,",
    f"{name(1)},delete,,bob,blurred",
    f"{name(2)},relabel,b,bob,",
    f"{name(3)},keep,,bob,",
    f"{name(4)},delete,,bob,",
]
HEADER = "image,action,label,by,note"


@pytest.mark.parametrize(
    "content",
    [
        "\n".join([HEADER, *FIVE]).encode("utf-8-sig"),
        "\r\n".join([HEADER, *FIVE, ""]).replace(",", ";").encode("utf-8-sig"),
        "\n".join([HEADER, *FIVE]).replace(",", "\t").encode(),
        "\n".join(["Image,Action,Label,By,Note", *FIVE]).encode(),
        "\r".join([HEADER, *FIVE]).encode(),
    ],
    ids=["byte order mark", "semicolons", "tabs", "capitals", "old line ends"],
)
def test_what_a_spreadsheet_saves_is_understood_and_the_next_click_loses_nothing(
    client: TestClient, root: Path, content: bytes
):
    (root / "data/decisions.csv").write_bytes(content)
    assert client.get("/api/state").json()["decided"] == 5
    assert decide(client, 7, "keep").status_code == 200
    assert (root / "data/decisions.csv").read_text() == "\n".join(
        [HEADER, *FIVE, f"{name(7)},keep,,ada,", ""]
    )


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (FIVE, "line 1: should name the columns"),
        ([line + "x" for line in FIVE[1:2]] + FIVE, "line 1: lacks the column image"),
        ([HEADER, *FIVE[:2], "<<<<<<< HEAD", *FIVE[2:]], "line 4: '<<<<<<< HEAD' is left from a"),
        ([HEADER, *FIVE, f"{name(5)},kept,,,"], "line 7: action is 'kept'"),
        ([HEADER, *FIVE, f"{name(5)},keep,,ada,one, two"], "line 7: 6 cells, the header has 5"),
        ([HEADER, *FIVE, f"{name(5)},keep,,\0,"], "line 7: holds a NUL"),
    ],
    ids=["no header", "other header", "conflict", "unknown action", "long row", "NUL"],
)
def test_what_is_not_understood_is_shown_with_its_line_and_written_nowhere(
    client: TestClient, root: Path, lines: list[str], reason: str
):
    before = "\n".join([*lines, ""]).encode()
    (root / "data/decisions.csv").write_bytes(before)
    for answer in (
        client.get("/api/state"),
        client.get("/api/status"),
        client.get("/api/pictures"),
        decide(client, 7, "keep"),
        decide(client, 0, ""),
    ):
        assert answer.status_code == 409
        assert reason in answer.json()["error"]
        assert "decisions.csv" in answer.json()["error"]
    assert (root / "data/decisions.csv").read_bytes() == before


def test_columns_that_others_added_are_kept_also_through_an_undo(client: TestClient, root: Path):
    path = root / "data/decisions.csv"
    path.write_text(f"image,action,seen on\n{name(1)},keep,monday\n{name(2)},delete,tuesday\n")
    decide(client, 1, "delete", note="blurred")
    assert read_decisions(path)[name(1)]["seen on"] == "monday"
    cleared = decide(client, 1, "").json()
    assert name(1) not in read_decisions(path)
    assert undo(client, cleared).json()["now"] == cleared["before"]
    assert read_decisions(path)[name(1)]["seen on"] == "monday"


def test_a_thumbnail_follows_its_file(client: TestClient, root: Path):
    path = root / f"data/images/b/{name(1)}.jpg"
    first = client.get(f"/thumbnail/{name(1)}")
    tag = {"if-none-match": first.headers["etag"]}
    assert client.get(f"/thumbnail/{name(1)}", headers=tag).status_code == 304
    Image.new("RGB", (90, 60), "red").save(path)
    for address in ("thumbnail", "picture"):
        second = client.get(f"/{address}/{name(1)}", headers=tag)
        assert second.status_code == 200
        pixel = Image.open(io.BytesIO(second.content)).getpixel((0, 0))
        assert pixel[0] > 240
        assert pixel[2] < 20
    path.write_bytes(b"no picture")
    assert client.get(f"/thumbnail/{name(1)}").status_code == 404
    path.unlink()
    assert "is missing" in client.get(f"/thumbnail/{name(1)}").json()["error"]


@pytest.mark.parametrize(
    ("table", "content", "reason"),
    [
        ("split", "path,label\nx,a\n", "lacks the column group"),
        ("predictions", "path,loss\nx,1\n<<<<<<< HEAD\n", "left from a merge"),
        ("predictions", f"path,loss\ndata/images/a/{name(0)}.jpg,high\n", "'high', not a number"),
        ("findings", "path\nx\n", "lacks the column action"),
        ("properties", "path\nx\n", "lacks the column faults"),
    ],
)
def test_a_damaged_table_is_named_on_the_page(
    client: TestClient, root: Path, table: str, content: str, reason: str
):
    (root / f"data/{table}.csv").write_text(content)
    answer = client.get("/api/state")
    assert answer.status_code == 409
    assert reason in answer.json()["error"]


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
    assert len(read_decisions(path)) == 100


def test_in_a_real_browser_nothing_is_lost(browser, tmp_path: Path):
    root = make_project(tmp_path, 5000)
    server = ServerProcess("review", root, "--by", "ada")
    decisions = root / "data/decisions.csv"
    try:
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(server.url)
        page.wait_for_selector("#grid li.on")
        assert page.locator("#grid li").count() < 100, "only what is in sight is in the document"
        first = page.locator("#grid li.on").get_attribute("data-image")
        page.keyboard.press("d")
        page.wait_for_selector(f"#p{first}.delete")
        assert read_decisions(decisions)[first]["action"] == "delete"
        second = page.locator("#grid li.on").get_attribute("data-image")
        page.keyboard.press("2")
        page.wait_for_selector(f"#p{second}.relabel")
        page.keyboard.press("u")
        page.wait_for_selector(f"#p{second}:not(.relabel)")
        assert second not in read_decisions(decisions)
        page.select_option("#split", "valid")
        page.select_option("#order", "pairs")
        page.reload()
        page.wait_for_selector("#grid li.on")
        assert page.input_value("#order") == "pairs"
        assert page.input_value("#split") == "valid"
        other = browser.new_page()
        other.goto(server.url)
        other.click("#grid li >> nth=3")
        third = other.locator("#grid li.on").get_attribute("data-image")
        other.click("button[data-action=keep]")
        other.wait_for_selector(f"#p{third}.keep")
        server.kill()
        page.keyboard.press("k")
        page.wait_for_selector("#toast:not([hidden])")
        assert "Not saved" in page.inner_text("#toast")
        server = ServerProcess("review", root, port=server.address[1])
        page.reload()
        page.wait_for_selector("#count:has-text('2 decided')")
        page.select_option("#split", "")
        page.select_option("#order", "name")
        page.keyboard.press("Escape")
        page.locator("#grid").focus()
        page.keyboard.press("End")
        page.wait_for_selector("#grid li.on[aria-posinset='5000']")
        assert {first, third} == set(read_decisions(decisions))
        phone = browser.new_page(viewport={"width": 360, "height": 740})
        phone.goto(server.url)
        phone.wait_for_selector("#grid li.on")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 360
        assert not problems
    finally:
        server.kill()


def test_with_many_classes_the_name_is_typed_and_nine_keep_their_digits(browser, tmp_path: Path):
    root, label = make_project(tmp_path, 40), [f"breed {i:02}" for i in range(37)]
    split = [
        f"data/images/{'ab'[i % 2]}/{name(i)}.jpg,{label[i % 37]},{name(i)},valid"
        for i in range(40)
    ]
    (root / "data/split.csv").write_text("\n".join(["path,label,group,split", *split, ""]))
    server = ServerProcess("review", root)
    decided = root / "data/decisions.csv"
    try:
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto(server.url)
        page.wait_for_selector("#grid li.on")
        assert page.locator("#classes button").count() == 9
        assert page.locator("#names option").count() == 37
        first = page.locator("#grid li.on").get_attribute("data-image")
        page.keyboard.press("r")
        page.keyboard.type("breed")
        page.keyboard.press("Enter")
        page.wait_for_selector("#toast:has-text('37 classes fit')")
        page.fill("#relabel", "no such")
        page.keyboard.press("Enter")
        page.wait_for_selector("#toast:has-text('No class is called')")
        assert read_decisions(decided) == {}
        page.fill("#relabel", "D 36")  # one class holds it, in another case
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#p{first}.relabel")
        assert read_decisions(decided)[first]["label"] == "breed 36"
        second = page.locator("#grid li.on").get_attribute("data-image")
        page.keyboard.press("9")
        page.wait_for_selector(f"#p{second}.relabel")
        assert read_decisions(decided)[second]["label"] == "breed 08"
        phone = browser.new_page(viewport={"width": 390, "height": 844})
        phone.goto(server.url)
        phone.wait_for_selector("#grid li.on")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        assert phone.locator("#relabel").is_visible()
        assert phone.locator("footer").bounding_box()["height"] < 200
    finally:
        server.kill()


def test_a_note_is_kept_with_the_decision(browser, root: Path):
    server = ServerProcess("review", root, "--by", "ada")
    decisions = root / "data/decisions.csv"
    try:
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto(server.url)
        page.wait_for_selector("#grid li.on")
        first = page.locator("#grid li.on").get_attribute("data-image")
        page.keyboard.press("n")
        page.keyboard.type("dark, but kept")  # d and k are keys elsewhere
        page.evaluate("refresh()")
        page.keyboard.press("Enter")
        assert read_decisions(decisions) == {}, "a note alone decides nothing"
        page.keyboard.press("k")
        page.wait_for_selector(f"#p{first}.keep")
        assert read_decisions(decisions)[first]["note"] == "dark, but kept"
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
        assert read_decisions(decisions)[first] == {
            "image": first, "action": "keep", "label": "", "by": "ada", "note": "really a dog",
        }  # fmt: skip
        page.keyboard.press("u")
        page.wait_for_selector("#about:has-text('dark, but kept')")
        assert page.input_value("#note") == "dark, but kept"
    finally:
        server.kill()


def test_the_page_shows_why_nothing_can_be_decided_and_goes_on_when_it_is_put_right(
    browser, root: Path
):
    path = root / "data/decisions.csv"
    path.write_text("\n".join(FIVE))
    server = ServerProcess("review", root)
    try:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(server.url)
        page.wait_for_selector(
            "#problem:has-text('decisions.csv, line 1: should name the columns')"
        )
        assert page.locator("#grid li").count() == 0
        page.keyboard.press("k")
        assert page.locator("button[data-action=keep]").is_disabled()
        assert path.read_text() == "\n".join(FIVE)
        path.write_text("\n".join([HEADER, *FIVE]))
        page.wait_for_selector("#count:has-text('5 decided')")
        assert page.locator("#problem").is_hidden()
        # damaged again while the page is open: the next click is refused
        path.write_text("\n".join([HEADER, *FIVE, ">>>>>>> other"]))
        page.keyboard.press("k")
        page.wait_for_selector("#toast:has-text('Not saved'), #problem:has-text('line 7')")
        page.wait_for_selector("#problem:has-text('line 7')")
        assert path.read_text().endswith(">>>>>>> other")
    finally:
        server.kill()
