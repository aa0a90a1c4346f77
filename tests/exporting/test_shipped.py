"""export/predict.py, alone in a folder: one line per picture, and one line for what is wrong."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pawprint.exporting.shipped import predict
from tests.support.exported import picture, write_export
from tests.support.phone import DISPLAY_P3, heic, written
from tests.support.project import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An exported folder, outside of the project."""
    export = write_export(tmp_path / "export")
    shutil.copyfile(ROOT / "pawprint/exporting/shipped/predict.py", export / "predict.py")
    shutil.copytree(ROOT / "pawprint/pictures", export / "pictures")
    (tmp_path / "red.png").write_bytes(picture("red"))
    (tmp_path / "night.png").write_bytes(picture("black"))
    (tmp_path / "broken.png").write_bytes(picture("red", (300, 300))[:80])
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    (tmp_path / "empty.jpg").touch()
    return tmp_path


def ask(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "export/predict.py", *names]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_every_picture_is_a_line(folder: Path):
    done = ask(folder, "red.png", "night.png")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("red.png red=1.000 ")
    assert second.startswith("night.png none of these: ")


@pytest.mark.parametrize("bad", ["broken.png", "page.jpg", "empty.jpg", "nowhere.png", "export"])
def test_a_bad_first_file_is_a_line_and_the_others_are_answered(folder: Path, bad: str):
    done = ask(folder, bad, "red.png")
    assert (done.returncode, done.stderr) == (1, "")
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{bad}  error: ")
    assert second.startswith("red.png red=")


def test_of_many_classes_the_five_likeliest_are_printed(monkeypatch, capsys):
    chances = {f"class {i}": i / 1000 for i in range(40)}
    answer = {"none": False, "probabilities": chances}
    monkeypatch.setattr(predict, "Classifier", lambda: lambda name: answer)
    assert predict.main(["x.jpg"]) == 0
    likeliest = " ".join(f"class {i}={i / 1000:.3f}" for i in range(39, 34, -1))
    assert capsys.readouterr().out == f"x.jpg {likeliest}\n"


def test_the_title_is_a_short_line_for_any_number_of_classes():
    assert predict.title_of(["black", "grizzly", "teddy"]) == "black or grizzly or teddy?"
    assert predict.title_of([f"class {i}" for i in range(1000)]) == "Which of 1000 classes?"


def test_heic_needs_pi_heif_and_says_so_in_one_line(folder: Path):
    red = Image.new("RGB", (60, 60), "red")
    (folder / "phone.heic").write_bytes(heic(red, 6, icc_profile=DISPLAY_P3))
    (folder / "p3.jpg").write_bytes(written(red, "JPEG", icc_profile=DISPLAY_P3))
    names = ("phone.heic", "p3.jpg", "red.png")
    with_it = ask(folder, *names)
    assert (with_it.returncode, with_it.stderr) == (0, "")
    assert [line.split()[1] for line in with_it.stdout.splitlines()] == ["red=1.000"] * 3
    (folder / "export/pi_heif.py").write_text("raise ImportError('as if not installed')")
    without = ask(folder, *names)
    assert (without.returncode, without.stderr) == (1, "")
    first, *others = without.stdout.splitlines()
    said = "a HEIC picture; `pip install pi-heif` adds what reads it"
    assert first == f"phone.heic  error: {said}"
    assert others == with_it.stdout.splitlines()[1:]


def test_no_file_is_answered_with_the_usage(folder: Path):
    done = ask(folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "usage: python predict.py PICTURE…\n"


@pytest.mark.parametrize("content", [None, b"not onnx"])
def test_a_model_that_cannot_be_read_is_a_line(folder: Path, content: bytes | None):
    (folder / "export/model.onnx").unlink()
    if content:
        (folder / "export/model.onnx").write_bytes(content)
    done = ask(folder, "red.png")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("predict.py: the model cannot be read: ")


def test_a_pipe_that_is_closed_early_ends_it_quietly(folder: Path):
    pictures = "red.png " * 3000
    shell = f"set -o pipefail; {sys.executable} export/predict.py {pictures} | head -1"
    done = subprocess.run(["bash", "-c", shell], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (141, 1, "")
