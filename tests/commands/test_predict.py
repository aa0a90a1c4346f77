"""`pawprint predict`: files, folders, patterns and lists; a bad file is a row, not the end."""

import csv
import io
import json
import subprocess
import sys

import pytest
from PIL import Image

from pawprint.exporting.shipped.predict import Classifier
from tests.support.commands import predict
from tests.support.exported import picture, write_export
from tests.support.project import ROOT


@pytest.fixture
def folder(tmp_path):
    write_export(tmp_path / "export")
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/a.png").write_bytes(picture("red"))
    (tmp_path / "in/deep/b.JPG").write_bytes(picture("green", form="JPEG"))
    (tmp_path / "in/notes.txt").write_text("not asked about")
    return tmp_path


def test_a_folder_gives_its_pictures_in_order(folder):
    done = predict(folder / "export", folder / "in")
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["red", "green"]


def test_patterns_lists_and_files_may_be_mixed(folder):
    done = predict(folder / "export", f"{folder}/in/**/*.JPG", "-", stdin=f"{folder}/in/a.png\n\n")
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["green", "red"]


def test_a_bad_file_is_one_row_and_exit_code_1(folder):
    (folder / "in/bad.png").write_bytes(b"<html>")
    (folder / "in/cut.png").write_bytes(picture("blue", (300, 300))[:60])
    done = predict(folder / "export", folder / "in", folder / "nowhere.png", "--format", "csv")
    rows = {row["file"].rsplit("/", 1)[1]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert rows["a.png"]["label"] == "red"
    assert rows["bad.png"]["error"] == "not a picture"
    assert rows["cut.png"]["error"]
    assert rows["nowhere.png"]["error"] == "No such file or directory"


def test_a_stranger_is_called_none_of_these(folder):
    (folder / "night.png").write_bytes(picture("black"))
    assert "none of these" in predict(folder / "export", folder / "night.png").stdout
    (row,) = csv.DictReader(
        io.StringIO(predict(folder / "export", folder / "night.png", "--format", "csv").stdout)
    )
    assert row["none"] == "yes"


def test_json_lines_hold_all_probabilities(folder):
    (row,) = map(
        json.loads,
        predict(folder / "export", folder / "in/a.png", "--format", "jsonl").stdout.splitlines(),
    )
    assert row["label"] == "red"
    assert sum(row["probabilities"].values()) == pytest.approx(1)
    assert row["probability"] == row["probabilities"]["red"] > 0.99


def test_many_files_keep_their_order(folder):
    names = []
    for i in range(70):
        colour = ["red", "green", "blue"][i % 3]
        (folder / f"{i}.png").write_bytes(picture(colour))
        names.append(f"{folder}/{i}.png")
    done = predict(folder / "export", "-", stdin="\n".join(names))
    assert [line.split()[1] for line in done.stdout.splitlines()] == (
        ["red", "green", "blue"] * 24
    )[:70]


def test_a_folder_without_a_model_is_named(folder):
    done = predict(folder / "in", folder / "in/a.png")
    assert done.returncode == 1
    assert "model.onnx is missing; `dvc repro` makes export/" in done.stderr
    (folder / "export/model.onnx").write_bytes(b"not onnx")
    done = predict(folder / "export", folder / "in/a.png")
    assert done.returncode == 1
    assert "holds no usable model" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_picture_lying_on_its_side_is_turned(folder):
    classifier = Classifier(folder / "export")
    image = Image.new("RGB", (40, 80), "blue")
    image.paste("red", (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 3
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    upright, lying = classifier.prepare(image), classifier.prepare(Image.open(buffer))
    assert (lying == upright[::-1, ::-1]).all()


def test_the_command_imports_no_torch():
    code = "import sys, pawprint.commands.predict, pawprint.commands.serve;"
    code += "sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
