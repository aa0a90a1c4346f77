"""The review page finds similar pictures, draws a map, selects several, says what comes next."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from pawprint.commands.review.api import create_app
from pawprint.commands.review.rerun import Rerun, stages_after
from pawprint.commands.review.shelf import ProjectShelf
from pawprint.params import load_yaml
from pawprint.state import read_decisions
from tests.support.commands import ServerProcess
from tests.support.commands import picture_id as name
from tests.support.project import ROOT
from tests.support.review import add_features, make_project

AXE = ROOT / "tests/browser/node_modules/axe-core/axe.min.js"
COUNT = 40
ACTIONS = {"k": "keep", "d": "delete"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_project(tmp_path, COUNT)
    add_features(tmp_path, COUNT)
    for file in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / file, tmp_path / file)
    return tmp_path


@pytest.fixture
def client(root: Path) -> TestClient:
    return TestClient(create_app(ProjectShelf(root), by="ada"), base_url="http://localhost:8008")


@pytest.fixture
def decisions(root: Path) -> Path:
    return root / "data/decisions.csv"


# --- what the server finds ---


def test_similar_pictures_are_the_nearest_in_features_the_nearest_first(client: TestClient):
    found = client.get("/api/similar", params={"image": name(9)}).json()
    assert len(found["images"]) == COUNT - 1
    assert set(found["images"][:19]) == {name(i) for i in range(1, COUNT, 2) if i != 9}
    assert found["distances"] == sorted(found["distances"])
    assert found["images"][-1] in {name(i) for i in range(0, COUNT, 2)}


def test_the_map_has_every_picture_of_split_csv_with_its_class_and_split(client: TestClient):
    answer = client.get("/api/map")
    count = int(answer.headers["x-pictures"])
    x, y, label, split = np.frombuffer(answer.content[: 8 * count], "<u2").reshape(4, count)
    names = answer.content[8 * count :].decode().split("\n")
    assert (count, names) == (COUNT, [name(i) for i in range(COUNT)])
    assert label.tolist() == [i % 2 for i in range(COUNT)]
    assert split.tolist() == [i % 3 for i in range(COUNT)]
    sides = np.array([x[0::2].mean(), x[1::2].mean()])
    assert np.ptp(sides) > 50_000, "the two classes are the first direction"
    assert {int(x.min()), int(x.max()), int(y.min()), int(y.max())} == {0, 65535}
    assert client.get("/api/map", params={"method": "dream"}).status_code == 400


@pytest.mark.parametrize("damage", ["missing", "cut", "no header", "of other pictures"])
def test_without_features_the_page_works_and_says_what_makes_them(
    client: TestClient, root: Path, damage: str
):
    file = root / "data/features.safetensors"
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:600])
    elif damage == "no header":
        file.write_bytes(b"\xff" * 100)
    else:
        (root / "data/images.csv").write_text("path\nanother.jpg\n")
    state = client.get("/api/state").json()
    assert (state["pictures"], "`dvc repro features` makes it" in state["no_features"]) == (
        40,
        True,
    )
    assert client.get("/api/pictures").status_code == 200
    for path in ("/api/map", f"/api/similar?image={name(1)}"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]) == (409, state["no_features"])


def test_each_fault_of_pictures_is_an_order_the_worst_first(client: TestClient, root: Path):
    kinds = ("dark", "light", "blurry", "low_information", "odd_size", "odd_aspect_ratio")
    lines = ["path,faults,severity," + ",".join(f"{kind}_score" for kind in kinds)]
    for i in range(COUNT - 1):
        scores = ",".join(str((i + 3 * k) % 39 / 39) for k in range(len(kinds)))
        lines.append(f"data/images/{'ab'[i % 2]}/{name(i)}.jpg,,0,{scores}")
    (root / "data/properties.csv").write_text("\n".join([*lines, ""]))
    for k, kind in enumerate(kinds):
        pictures = client.get("/api/pictures", params={"order": kind}).json()["pictures"]
        worst = [each["image"] for each in pictures]
        assert worst[:2] == [name((i - 3 * k) % 39) for i in (0, 1)]
        assert (len(worst), worst[-1]) == (COUNT, name(39)), "what is not measured comes last"


# --- what the decisions lead to ---


def test_the_stages_that_a_decision_reruns_are_those_that_follow_it_in_dvc_yaml():
    pipeline, params = load_yaml(ROOT / "dvc.yaml"), load_yaml(ROOT / "params.yaml")

    def after(path: str) -> list[str]:
        return stages_after(path, pipeline, params)

    assert after("data/decisions.csv") == ["clean", "retrain", "evaluate", "export"]
    assert after("metrics/lr_find.json")[:2] == ["lr", "train"]
    assert after("data/added/cat/1.jpg") == list(pipeline["stages"]), "a file in a folder"
    assert after("export") == []
    del pipeline["stages"]["retrain"], pipeline["stages"]["evaluate"]
    assert after("data/decisions.csv") == ["clean", "export"], "only stages that are there"


def test_once_a_run_has_had_the_decisions_nothing_is_to_be_rerun(root: Path, decisions: Path):
    rerun = Rerun(root)
    decisions.write_text(f"image,action,label,by,note\n{name(1)},keep,,ada,\n")
    assert not rerun.is_done()
    lock = (ROOT / "dvc.lock").read_text()
    (root / "dvc.lock").write_text(lock)
    assert not rerun.is_done()
    shutil.copyfile(ROOT / "data/decisions.csv", decisions)
    assert rerun.is_done()
    assert Rerun(ROOT, "data/split.csv").is_done(), "also a file that several stages read"


def test_the_page_says_how_many_decisions_what_the_model_says_and_what_would_run(
    client: TestClient,
):
    def decide(i: int, action: str, label: str = "") -> dict:
        body = {"images": [name(i)], "action": action, "label": label}
        return client.post("/api/decide", json=body, headers={"x-pawprint": "review"}).json()

    assert client.get("/api/status").json()["next"] == ""
    first = decide(0, "keep")["status"]  # the model says a of all pictures, and this is one
    assert first["next"] == (
        "1 decision; the last model agrees with 1 of 1 label; "
        "dvc repro would rerun clean, retrain, evaluate, export"
    )
    decide(2, "relabel", "b")
    third = decide(3, "delete")["status"]
    assert third["next"].startswith("3 decisions; the last model agrees with 1 of 2 labels; dvc")
    assert third["command"] == "dvc repro"


# --- in a browser ---


def open_page(browser, url: str, **how: object):
    page = browser.new_page(**{"viewport": {"width": 1100, "height": 800}, **how})
    page.goto(url)
    page.wait_for_selector("#grid li.on")
    return page


def test_several_are_selected_decided_found_and_mapped_by_keyboard(browser, root, decisions):
    server = ServerProcess("review", root, "--by", "ada")
    try:
        page = open_page(browser, server.url)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.select_option("#order", "name")
        page.wait_for_selector(f"#p{name(0)}.on")
        page.locator("#grid").focus()

        # a range, and one more
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        page.wait_for_selector("#about:has-text('3 selected')")
        for key in ("ArrowRight", "ArrowRight", "Space"):
            page.keyboard.press(key)
        page.wait_for_selector("#about:has-text('4 selected')")
        page.keyboard.press("d")
        page.wait_for_selector(f"#p{name(8)}.delete:not(.picked)")
        assert set(read_decisions(decisions)) == {name(i) for i in (0, 2, 4, 8)}
        page.wait_for_selector("#next:has-text('4 decisions; dvc repro would rerun clean')")
        page.keyboard.press("u")
        page.wait_for_selector(f"#p{name(8)}:not(.delete)")
        assert read_decisions(decisions) == {}

        # all of a class
        page.select_option("#label", "b")
        page.wait_for_selector("#count:has-text('20 of 40')")
        page.locator("#grid").focus()
        page.keyboard.press("a")
        page.keyboard.press("k")
        page.wait_for_selector(f"#p{name(1)}.keep")
        assert set(read_decisions(decisions)) == {name(i) for i in range(1, COUNT, 2)}
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.keyboard.press("y")
        page.wait_for_selector("#next:has-text('Copied: dvc repro')")
        assert page.evaluate("navigator.clipboard.readText()") == "dvc repro"

        # similar ones, and back
        first = page.locator("#grid li.on").get_attribute("data-image")
        page.keyboard.press("s")
        page.wait_for_selector("#subject:has-text('39 pictures that look most like one of b')")
        page.wait_for_selector(f"#p{first}.on:has-text('this picture')")
        assert "distance 0." in page.locator("#grid li").nth(1).inner_text()
        page.keyboard.press("Escape")
        page.wait_for_selector("#count:has-text('20 of 40')")

        # the map: around the chosen point
        page.keyboard.press("m")
        page.wait_for_selector("#spot-text:has-text('b')")
        for _ in range(30):
            page.keyboard.press("+")
        page.wait_for_selector("#about:has-text('20 selected')")  # the other class is filtered
        page.keyboard.press("Escape")
        page.wait_for_selector("#about:not(:has-text('selected'))")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Space")
        page.keyboard.press("g")
        page.wait_for_selector("#subject:has-text('1 selected on the map')")
        page.keyboard.press("c")
        page.wait_for_selector("#grid li.keep", state="detached")
        assert len(read_decisions(decisions)) == 19
        assert not problems
    finally:
        server.kill()


def tap(page, selector: str) -> None:
    """Tap until it is a click: on a busy machine a touch may take so long that it is none."""
    from playwright.sync_api import TimeoutError as NoClick

    page.evaluate("window.clicks ??= (addEventListener('click', () => window.clicks++, true), 0)")
    before = page.evaluate("window.clicks")
    for _ in range(5):
        page.tap(selector)
        with contextlib.suppress(NoClick):
            page.wait_for_function("before => window.clicks > before", arg=before, timeout=3000)
            return
    raise AssertionError(f"no tap on {selector} was a click")


def test_by_touch_on_a_phone_several_are_decided_and_a_lasso_selects(browser, root, decisions):
    server = ServerProcess("review", root)
    try:
        phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
        page = open_page(browser, server.url, **phone)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        tap(page, "#pick")
        for i in (1, 2):
            tap(page, f"#grid li >> nth={i}")
        page.wait_for_selector("#about:has-text('2 selected')")
        tap(page, "button[data-action=delete]")
        page.locator("#grid li.delete").nth(1).wait_for()
        assert len(read_decisions(decisions)) == 2
        tap(page, "#pick")
        tap(page, "#mapped")
        page.wait_for_selector("#spot-picture:not([hidden])")
        assert page.locator("footer").is_visible()
        box = page.locator("#map").bounding_box()
        assert box["height"] > 200, "the map has most of the screen"
        touch = page.context.new_cdp_session(page)
        right, bottom = box["x"] + box["width"], box["y"] + box["height"]
        middle = box["x"] + box["width"] / 2  # of the two classes, a line around one
        line = [(middle, box["y"]), (right, box["y"]), (right, bottom), (middle, bottom)]
        for i, (x, y) in enumerate(line):
            kind = "touchMove" if i else "touchStart"
            point = [{"x": min(x, right - 1), "y": min(y + 1, bottom - 1)}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": point})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_selector("#about:has-text('20 selected')")
        tap(page, "#see")
        page.wait_for_selector("#subject:has-text('20 selected on the map')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    finally:
        server.kill()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_names_and_contrast_in_order(browser, root: Path, decisions: Path, scheme: str):
    if not AXE.is_file():
        pytest.skip("axe-core is missing: `npm install --prefix tests/browser`")
    decisions.write_text(
        "image,action,label,by,note\n"
        f"{name(38)},keep,,ada,\n{name(39)},delete,,ada,\n{name(37)},relabel,a,ada,\n"
    )
    server = ServerProcess("review", root)
    try:
        page = open_page(browser, server.url, color_scheme=scheme)
        page.evaluate(AXE.read_text())

        def check(where: str) -> None:
            found = page.evaluate("axe.run()")
            broken = [
                f"{where}: {rule['id']}: {node['html'][:120]}"
                for rule in found["violations"]
                for node in rule["nodes"]
            ]
            assert broken == []
            assert len(found["passes"]) > 10, "axe has looked"

        page.keyboard.press("Space")
        check("a selection")
        page.keyboard.press("s")
        page.wait_for_selector("#subject:not([hidden])")
        page.keyboard.press("m")
        page.wait_for_selector("#spot-picture:not([hidden])")
        check("the map")
        page.set_viewport_size({"width": 390, "height": 844})
        page.keyboard.press("m")
        page.keyboard.press("Enter")
        page.wait_for_selector("#closer[open]")
        check("a phone, the picture large")
    finally:
        server.kill()
