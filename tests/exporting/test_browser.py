"""The static Space: it answers in the visitor's browser as predict.py does, offline too."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pawprint.exporting.browser import RUNTIME, VERSION, find_runtime, write_browser
from pawprint.exporting.shipped.predict import Classifier
from pawprint.params import StageError
from pawprint.pictures.opening import Preparation, open_picture
from pawprint.pictures.square import to_square
from tests.support.browser import ASK, served
from tests.support.exported import CLASSES, picture, write_export

TEST = {"pictures": 60, "wrong": 3, "error_rate": 0.05, "low": 0.01, "high": 0.13}
# pillow.js about pixels
SQUARE = """async ([content, width, height, how, size, resize, interpolation]) => {
    const { prepare, reduce, toSquare } = await import("./pillow.js");
    const data = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
    const image = prepare({ width, height, data }, how, false, reduce);
    return Array.from(toSquare(image, size, resize, interpolation).data);
}"""


@pytest.fixture(scope="module")
def runtime() -> Path:
    """The folder of onnxruntime-web."""
    try:
        return find_runtime()
    except StageError as error:
        pytest.skip(f"onnxruntime-web is not installed: {str(error).partition(': ')[2]}")


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory, runtime: Path) -> Path:
    """A folder with a model that explains itself, and its static Space."""
    folder = write_export(tmp_path_factory.mktemp("browser") / "export", explain=True)
    write_browser(folder / "browser", folder, runtime, classes=CLASSES, test=TEST)
    return folder


@pytest.fixture
def page(browser: Any, export: Path) -> Iterator[Any]:
    """The page, on a phone, once it can do without a network; afterwards there is none."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    with served(export / "browser") as address:
        page.goto(address)
        page.get_by_text("The page works offline now.").wait_for()
    page.context.set_offline(True)
    yield page
    assert problems == []


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def written(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_the_page_answers_without_a_network_and_says_why(page: Any, export: Path):
    page.reload()
    page.get_by_text("red, green or blue?").wait_for()
    green = {"name": "x.png", "mimeType": "image/png", "buffer": picture("green")}
    page.set_input_files("#file", green)
    page.locator("#answer", has_text="green").wait_for()
    page.locator("#looked").wait_for()
    assert "green" in page.locator("#looked").inner_text()
    assert page.locator("#like li").all_inner_texts()[0].startswith("green 1.00 green_picture")
    black = {"name": "x.png", "mimeType": "image/png", "buffer": picture("black")}
    page.set_input_files("#file", black)
    page.locator("#answer", has_text="None of these").wait_for()
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"no"})
    page.locator("#problem", has_text="This browser cannot read that").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    # the camera
    page.locator("#live").click()
    page.wait_for_function("document.getElementById('video').videoWidth > 0")
    page.locator("#shoot").click()
    page.locator("#result").wait_for()
    assert page.locator("#viewfinder").is_hidden()

    # the pixels of any file are those that predict.py sees
    classifier = Classifier(export)
    blocks = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    image = Image.fromarray(blocks).resize((90, 60))
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    turned = Image.Exif()
    turned[0x0112] = 6
    files = {
        "jpeg": written(image, "JPEG", quality=90),
        "turned": written(image, "JPEG", quality=90, exif=turned),
        "clear": written(clear, "PNG"),
        "palette": written(image.convert("P"), "GIF"),
        "grey": written(image.convert("L"), "WEBP", lossless=True),
    }
    for name, content in files.items():
        expected = classifier(io.BytesIO(content), explain=True)
        found = page.evaluate(ASK, encoded(content))
        assert set(found) == set(expected)
        assert found["label"] == expected["label"], name
        assert found["none"] == expected["none"]
        assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-3), name
        assert np.array(found["heat"]) == pytest.approx(np.array(expected["heat"]), abs=1e-2)
        assert [each["picture"] for each in found["nearest"]] == [
            each["picture"] for each in expected["nearest"]
        ]

    # and scaled as Pillow scales, to the byte
    shapes = [(37, 61, 0), (230, 150, 48), (33, 211, 48), (48, 47, 48)]
    for form in ("shrink", "crop", "squish", "pad"):
        for width, height, most in shapes:
            noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
            how = {"resize": form, "max_size": most}
            prepared = open_picture(Image.fromarray(noise), Preparation(form, most))
            for resize, by in (("crop", "bicubic"), ("squish", "bilinear"), ("pad", "bicubic")):
                expected_pixels = np.asarray(to_square(prepared, 24, resize, by))
                asked = [encoded(noise.tobytes()), width, height, how, 24, resize, by]
                found_pixels = np.array(page.evaluate(SQUARE, asked), dtype=np.uint8)
                assert np.array_equal(found_pixels, expected_pixels.ravel()), (form, width, resize)


def test_a_change_of_the_model_is_a_new_version_of_the_page(export: Path, runtime: Path, tmp_path):
    changed = write_export(tmp_path / "export")
    (changed / "model.json").write_text((changed / "model.json").read_text() + "\n")
    texts = []
    for i, model in enumerate((export, export, changed)):
        write_browser(tmp_path / str(i), model, runtime, classes=CLASSES, test=TEST)
        texts.append((tmp_path / str(i) / "sw.js").read_text())
    assert texts[0] == texts[1] != texts[2]
    assert "nearest.json" in texts[0]
    assert "nearest.json" not in texts[2]


def test_another_version_of_the_runtime_is_not_published(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=f"missing: npm install .*onnxruntime-web@{VERSION}"):
        find_runtime()
    there = tmp_path / "node_modules/onnxruntime-web/dist"
    there.mkdir(parents=True)
    for file, _ in RUNTIME.values():
        (there / file).write_text("another")
    with pytest.raises(StageError, match=f"mjs is not that of onnxruntime-web {VERSION}"):
        find_runtime()
