"""`pawprint predict`: files, folders, patterns and lists; a bad file is a row, not the end."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pawprint.exporting.shipped.predict import Classifier
from pawprint.pictures.formats import SUFFIXES_OF
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


def test_a_folder_is_read_as_gather_reads_it(folder):
    """Every format, no hidden file, no file of another kind; links are followed, loops once."""
    pictures = folder / "all"
    (pictures / ".hidden").mkdir(parents=True)
    made = {f"x{suffixes[0]}": form for form, suffixes in SUFFIXES_OF.items()}
    made = {name: form for name, form in made.items() if form in Image.SAVE}
    made["photo.jfif"] = "JPEG"
    for name, form in made.items():
        (pictures / name).write_bytes(picture("green", (64, 64), form))
    (pictures / "._x.jpg").write_bytes(b"macOS")
    (pictures / ".hidden/x.png").write_bytes(picture("red"))
    (pictures / "notes.txt").write_text("not asked about")
    os.mkfifo(pictures / "pipe.jpg")
    (pictures / "loop").symlink_to(pictures)
    (pictures / "to itself.png").symlink_to("to itself.png")
    (pictures / "gone.png").symlink_to("nowhere.png")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere/y.png").write_bytes(picture("blue"))
    (pictures / "linked").symlink_to(folder / "elsewhere")
    done = predict(folder / "export", pictures, "--format", "csv")
    rows = {
        row["file"].removeprefix(f"{pictures}/"): row["label"] or row["error"]
        for row in csv.DictReader(io.StringIO(done.stdout))
    }
    assert rows == {
        **dict.fromkeys(made, "green"),
        "linked/y.png": "blue",
        "gone.png": "No such file or directory",
        "to itself.png": "Too many levels of symbolic links",
    }
    assert list(rows) == sorted(rows)
    assert "Traceback" not in done.stderr


def test_a_pattern_through_a_loop_of_links_gives_each_file_once(folder):
    (folder / "in/loop").symlink_to(folder / "in")
    done = predict(folder / "export", f"{folder}/in/**/*.png")
    assert done.stdout.count("a.png") == 1
    assert done.returncode == 0


def test_a_pattern_may_match_folders_and_gives_their_pictures(folder):
    done = predict(folder / "export", f"{folder}/i?")
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["red", "green"]


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_a_pipe_that_is_closed_early_ends_it_quietly(folder, form):
    """`pawprint predict … | head -1`."""
    (folder / "list").write_text(f"{folder}/in/a.png\n" * 3000)
    command = (
        f"{sys.executable} -m pawprint predict {folder}/export - --format {form} <{folder}/list"
    )
    shell = f"set -o pipefail; {command} | head -1"
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert "Error" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_said_in_one_line(folder):
    command = [sys.executable, "-m", "pawprint", "predict", folder / "export", folder / "in/a.png"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("cannot be written: No space left on device")
    assert "Traceback" not in done.stderr


def test_a_list_from_another_system_is_read(folder):
    """Line ends of Windows, a byte order mark, and a name that is not UTF-8."""
    odd = os.fsencode(folder) + b"/in/caf\xe9.png"
    with open(odd, "wb") as file:
        file.write(picture("blue"))
    lines = f"\ufeff{folder}/in/a.png\r\n\r\n{folder}/in/deep/b.JPG\r\n".encode()
    done = predict(folder / "export", "-", "--format", "jsonl", stdin=lines + odd + b"\r\n")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["label"] for row in rows] == ["red", "green", "blue"]
    assert os.fsencode(rows[2]["file"]) == odd


def test_odd_names_in_a_list_are_rows_with_errors(folder):
    names = ["x" * 5000, "a\0b.png", str(folder), "https://", "[", "~nobody"]
    done = predict(folder / "export", "-", stdin="\n".join(names))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == len(names)
    assert all("  error: " in line for line in done.stdout.splitlines())
    done = predict(folder / "export", "x" * 5000, "[")
    assert (done.returncode, done.stdout.count("  error: ")) == (1, 2)


def test_a_name_with_a_line_end_is_one_row_of_csv(folder):
    odd = folder / "in/a\rb\nc.png"
    odd.write_bytes(picture("blue"))
    done = predict(folder / "export", odd, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(done.stdout, newline=""))
    assert (row["file"], row["label"]) == (str(odd), "blue")


def test_nothing_to_ask_about_is_said_in_one_line(folder):
    (folder / "empty").mkdir()
    for words, given in (([folder / "empty"], "empty"), (["-"], "in -")):
        done = predict(folder / "export", *words, stdin="\r\n\n")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith("pawprint: there are no pictures in ")
        assert given in done.stderr


def test_a_file_that_would_start_a_program_is_not_a_picture(folder):
    """Pillow hands EPS to Ghostscript, whatever the file is called."""
    (folder / "bear.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert predict(folder / "export", folder / "bear.jpg").stdout.endswith("error: not a picture\n")


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


def test_the_page_of_reasons_is_one_file_with_its_pictures(folder):
    export = write_export(folder / "export", explain=True)
    near = folder / "data/images/red/red_picture.jpg"
    near.parent.mkdir(parents=True)
    near.write_bytes(picture("red", form="JPEG"))
    (folder / "in/<b>.png").write_bytes(b"no picture")
    words = ("--explain", folder / "why", "--format", "jsonl")
    done = predict(export, folder / "in", *words)
    assert done.returncode == 1
    assert "why/index.html says why" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    wrong, red, green = rows
    assert "error" in wrong
    assert (red["label"], green["label"]) == ("red", "green")
    assert red["nearest"][0]["picture"] == "red_picture"
    assert np.array(red["heat"]).shape == (4, 4)
    assert "pictures" not in red
    page = (folder / "why/index.html").read_text()
    assert "&lt;b&gt;.png" in page
    assert "<b>.png" not in page
    # the picture and its map for two files, and the one training picture that is at hand, twice
    assert page.count('src="data:image/jpeg;base64,') == 6
    assert not re.findall(r"(?:src|href)=.(?!data:)|url\(|<script", page)
    for name in ("red_picture", "green_picture"):
        assert name in page


def test_a_model_that_explains_nothing_is_one_line(folder):
    done = predict(folder / "export", folder / "in", "--explain", folder / "why")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "set export.explain: true and run `dvc repro export`" in line
    assert not (folder / "why").exists()
