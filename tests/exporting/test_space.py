"""The Gradio page in export/ starts and answers, in a folder with nothing else of the project."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from PIL import Image

from tests.support.exported import picture, write_export
from tests.support.phone import DISPLAY_P3, heic
from tests.support.project import ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None,
    reason="gradio is not installed: pip install 'pawprint[space]'",
)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """The address of app.py, started as a Space starts it."""
    folder = write_export(tmp_path_factory.mktemp("space") / "export")
    for name in ("app.py", "predict.py"):
        shutil.copyfile(ROOT / "pawprint/exporting/shipped" / name, folder / name)
    shutil.copytree(ROOT / "pawprint/pictures", folder / "pictures")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
    }
    log = folder / "log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=folder,
            env={**os.environ, **own},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            for _ in range(600):
                assert process.poll() is None, log.read_text()
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.parametrize(
    ("colour", "label"), [("green", "green"), ("red", "red"), ("black", "none of these")]
)
def test_the_space_answers(space, tmp_path, colour, label):
    from gradio_client import Client, handle_file

    (tmp_path / "x.png").write_bytes(picture(colour))
    answer = Client(space, verbose=False).predict(
        handle_file(tmp_path / "x.png"), api_name="/classify"
    )
    assert answer["label"] == label
    shares = {each["label"]: each["confidence"] for each in answer["confidences"]}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert shares[label] > 0.9


def test_a_transparent_picture_lies_on_white_as_in_training(space, tmp_path):
    """Gradio's own conversion to RGB would uncover the blue of its transparent part."""
    from gradio_client import Client, handle_file

    image = Image.new("RGBA", (40, 40), (0, 0, 255, 0))
    image.paste((255, 0, 0, 255), (0, 0, 40, 12))
    image.save(tmp_path / "x.png")
    client = Client(space, verbose=False)
    assert client.predict(handle_file(tmp_path / "x.png"), api_name="/classify")["label"] == "red"


def test_a_phones_picture_is_answered(space, tmp_path):
    from gradio_client import Client, handle_file

    content = heic(Image.new("RGB", (60, 40), (0, 255, 0)), 6, icc_profile=DISPLAY_P3)
    (tmp_path / "IMG_1.HEIC").write_bytes(content)
    answer = Client(space, verbose=False).predict(
        handle_file(tmp_path / "IMG_1.HEIC"), api_name="/classify"
    )
    assert answer["label"] == "green"


def test_no_picture_is_answered_calmly(space):
    from gradio_client import Client

    assert Client(space, verbose=False).predict(None, api_name="/classify") == {}


def test_a_model_that_explains_itself_shows_why(tmp_path):
    folder = write_export(tmp_path / "export", explain=True)
    for name in ("app.py", "predict.py"):
        shutil.copyfile(ROOT / "pawprint/exporting/shipped" / name, folder / name)
    shutil.copytree(ROOT / "pawprint/pictures", folder / "pictures")
    (folder / "x.png").write_bytes(picture("red"))
    code = """
from app import classify, page
print([type(each).__name__.lower() for each in page.output_components])
answer, look, near = classify("x.png")
print(max(answer, key=answer.get), look.size, near[0], classify(None))
"""
    quiet = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parts, answer = done.stdout.splitlines()
    assert parts == "['label', 'image', 'dataframe']"
    assert answer == "red (32, 32) ['red', 1.0, 'red_picture'] [None, None, None]"
