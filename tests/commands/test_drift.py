"""`pawprint serve --log` and `--keep-images`, and what `pawprint drift` says of the log."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from pawprint.commands import drift
from pawprint.commands.answers import Keeper, Log, model_id
from pawprint.commands.serve.app import classify
from pawprint.exporting.shipped.predict import Classifier
from tests.support.commands import ServerProcess, pawprint
from tests.support.exported import CLASSES, picture, write_export
from tests.support.project import ROOT, Project, make_pictures


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_export(tmp_path / "export")


def answers(
    export: Path, log: Path, classes: list[str], confidence: list[float], none: int = 0
) -> None:
    """Write a log of these answers."""
    writer = Log(log, model_id(export))
    for i, (label, probability) in enumerate(zip(classes, confidence, strict=True)):
        answer = {"label": label, "probability": probability, "none": i < none, "none_score": 0.1}
        writer.add(hashlib.sha256(str(i).encode()).hexdigest(), answer)


def ask(*arguments: object) -> subprocess.CompletedProcess[str]:
    return pawprint("drift", *arguments)


SURE = [0.9 + i / 1000 for i in range(90)]


@pytest.mark.parametrize(
    ("classes", "confidence", "none", "code", "words"),
    [
        (CLASSES * 30, SURE, 4, 0, "no drift"),
        (["red"] * 70 + ["green"] * 20, SURE, 4, 2, "mix of classes"),
        (CLASSES * 30, [0.5 + i / 200 for i in range(90)], 4, 2, "confidence"),
        (CLASSES * 30, SURE, 30, 2, "share of none"),
        (CLASSES * 7, SURE[::4][:21], 2, 0, "no drift"),
    ],
)
def test_the_answer_is_one_line_and_an_exit_code(
    export, tmp_path, classes, confidence, none, code, words
):
    answers(export, tmp_path / "log.csv", classes, confidence, none)
    done = ask(tmp_path / "log.csv", export)
    assert done.returncode == code, done.stderr + done.stdout
    assert done.stdout.count("\n") == 1
    assert words in done.stdout
    assert re.match(r"drifted: [a-z ]+ \([^)]*\); " if code else "no drift: ", done.stdout)


def test_what_cannot_be_compared_is_said_in_one_line(export, tmp_path):
    log = tmp_path / "log.csv"
    cases = {
        "log.csv cannot be read: No such file": None,
        "is not a log of `pawprint serve --log`": "a,b\n1,2\n",
    }
    for words, content in cases.items():
        if content:
            log.write_text(content)
        done = ask(log, export)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert words in done.stderr
    log.unlink()
    answers(export, log, ["red"] * 5, [0.9] * 5)
    assert "holds 5 predictions of the model in" in ask(log, export).stderr
    answers(export, log, ["violet"] * 30, [0.9] * 30)
    assert "the class 'violet', which" in ask(log, export).stderr
    (export / "reference.json").write_text("{}")
    assert "reference.json is not what the stage export writes" in ask(log, export).stderr
    (export / "reference.json").unlink()
    assert "reference.json cannot be read: No such file" in ask(log, export).stderr
    assert ask(log, export).returncode == 1


@pytest.mark.parametrize(
    "reference",
    [
        "[]",
        "null",
        "no JSON",
        '{"pictures": 1, "classes": [], "none": 0, "confidence": [1]}',
        '{"pictures": 1, "classes": {"red": "one"}, "none": 0, "confidence": [1]}',
        '{"pictures": 1, "classes": {"red": 1}, "none": 2, "confidence": [1]}',
        '{"pictures": 1, "classes": {"red": 1}, "none": 0, "confidence": ["sure"]}',
        '{"pictures": 1, "classes": {"red": 1}, "none": 0, "confidence": [NaN]}',
        '{"pictures": 1, "classes": {"red": 0}, "none": 0, "confidence": [1]}',
    ],
)
def test_a_damaged_reference_is_said_in_one_line(export, tmp_path, reference):
    answers(export, tmp_path / "log.csv", CLASSES * 30, SURE, 4)
    (export / "reference.json").write_text(reference)
    done = ask(tmp_path / "log.csv", export)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "reference.json is not what the stage export writes" in done.stderr


def test_damaged_lines_of_a_log_are_passed_over(export, tmp_path):
    log = tmp_path / "log.csv"
    answers(export, log, CLASSES * 30, SURE, 4)
    good = log.read_bytes().splitlines()[1].decode()
    odd = [
        good.replace(",0.9", ",nan"),
        good.replace(",0.9", ",7"),
        good.replace(",1,", ",2,"),
        "x" * 200_000,
        '"' + "x" * 200_000,
        '"never closed,red',
        "a,b,c\0",
        "caf\udce9",
    ]
    with log.open("ab") as file:
        file.writelines(line.encode("utf-8", "surrogateescape") + b"\n" for line in odd)
    done = ask(log, export)
    assert done.returncode == 0, done.stderr
    assert f"passed over {len(odd)} broken lines" in done.stderr
    assert "90 predictions" in done.stdout


@pytest.mark.parametrize("log", ["folder", "picture", "empty"])
def test_what_is_not_a_log_is_said_in_one_line(export, tmp_path, log):
    (tmp_path / "folder").mkdir()
    (tmp_path / "picture").write_bytes(picture("red"))
    (tmp_path / "empty").touch()
    done = ask(tmp_path / log, export)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"pawprint: {tmp_path / log} ")
    done = ask(tmp_path / log, tmp_path / "nowhere")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_answers_of_another_model_and_broken_lines_are_passed_over(export, tmp_path):
    log = tmp_path / "log.csv"
    answers(export, log, CLASSES * 30, SURE, 4)
    other = Log(log, "another")
    for _ in range(50):
        other.add("00", {"label": "violet", "probability": 0.1, "none": True, "none_score": 9.0})
    with log.open("a") as file:
        file.write("2026-01-01T00:00:00Z,cut off he")
    answers(export, log, CLASSES, SURE[:3])
    done = ask(log, export)
    assert done.returncode == 0, done.stdout
    assert "93 predictions" in done.stdout
    assert "passed over 1 broken lines" in done.stderr
    assert "passed over 50 answers of another model" in done.stderr


def test_the_random_tables_agree_with_the_chi_squared_distribution():
    for now in ([300, 310, 290], [340, 300, 260], [320, 320, 260]):
        before = np.array([200, 200, 200])
        known = chi2_contingency([before, now]).pvalue
        assert drift.chi_squared(before, np.array(now)) == pytest.approx(known, abs=0.015)
    assert (
        drift.chi_squared(np.array([5, 0, 5]), np.array([3, 0, 4])) > 0.5
    )  # a class that nothing was, and few pictures


def test_without_drift_there_is_hardly_a_false_alarm_and_with_it_hardly_a_miss():
    random = np.random.default_rng(3)
    reference = {"pictures": 70, "classes": {"a": 20, "b": 30, "c": 20}, "none": 3}

    def run(mix: list[float], sure: float) -> bool:
        drawn = Counter(random.choice(["a", "b", "c"], 200, p=mix).tolist())
        reference["confidence"] = sorted(random.beta(8, 1, 70))
        seen = drift.Answers(
            drawn, random.beta(sure, 1, 200).tolist(), int(random.binomial(200, 0.05))
        )
        return any(
            drift.drifted(name, *figures)
            for name, figures in drift.compare_answers(reference, seen).items()
        )

    assert sum(run([2 / 7, 3 / 7, 2 / 7], 8) for _ in range(60)) <= 3
    assert sum(run([0.7, 0.2, 0.1], 8) for _ in range(30)) >= 28
    assert sum(run([2 / 7, 3 / 7, 2 / 7], 3) for _ in range(30)) >= 28


def test_many_pictures_do_not_make_a_trifle_a_drift():
    reference = {"pictures": 50_000, "classes": {"a": 25_000, "b": 25_000}, "none": 2500}
    reference["confidence"] = np.linspace(0.5, 1, 1000).tolist()
    seen = drift.Answers(Counter(a=26_000, b=24_000), np.linspace(0.51, 1, 50_000).tolist(), 2800)
    found = drift.compare_answers(reference, seen)
    assert found["classes"][1] < 1e-3
    assert not any(drift.drifted(name, *figures) for name, figures in found.items())


def test_threads_and_processes_append_whole_lines_under_one_header(tmp_path):
    log = tmp_path / "log.csv"
    code = f"""
from pathlib import Path
from pawprint.commands.answers import Log
log = Log(Path({str(log)!r}), "model")
for i in range(300):
    answer = {{"label": "a, \\"b\\"", "probability": 0.5, "none": False, "none_score": 0.25}}
    log.add("f" * 64, answer)
"""
    Log(log, "model").add(
        "0" * 64, {"label": "first", "probability": 1, "none": True, "none_score": 1}
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(3)]
    writer = Log(log, "model")
    row = {"label": "mine", "probability": 0.5, "none": False, "none_score": 0.25}
    threads = [
        threading.Thread(target=lambda: [writer.add("e" * 64, row) for _ in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    assert [process.wait() for process in processes] == [0, 0, 0]
    for thread in threads:
        thread.join()
    rows = list(csv.DictReader(log.open(newline="")))
    assert Counter(row["prediction"] for row in rows) == {"first": 1, 'a, "b"': 900, "mine": 800}
    assert log.read_text().count("sha256") == 1


def test_a_rotated_log_begins_with_a_header(tmp_path, export):
    log = tmp_path / "log.csv"
    writer = Log(log, model_id(export))
    row = {"label": "red", "probability": 0.5, "none": False, "none_score": 0.25}
    writer.add("a", row)
    log.rename(tmp_path / "log.1.csv")
    writer.add("b", row)
    assert [each["sha256"] for each in csv.DictReader(log.open(newline=""))] == ["b"]


@pytest.mark.parametrize("flag", ["--log", "--keep-images"])
def test_what_cannot_be_written_is_named_at_the_start(export, tmp_path, flag):
    (tmp_path / "other").write_text("a table of mine\n")
    for target in (tmp_path / "other", tmp_path / "other/deep"):
        done = pawprint("serve", export, flag, target, "--port", 0)
        assert done.returncode == 1
        assert done.stderr.startswith(f"pawprint: {flag} {target} ")
        assert done.stderr.count("\n") == 1
    assert (tmp_path / "other").read_text() == "a table of mine\n"


def test_served_answers_are_written_down_and_pictures_only_when_asked_for(export, tmp_path):
    log, kept = tmp_path / "log.csv", tmp_path / "kept"
    sent = {name: picture(name) for name in ("red", "green", "black")}
    server = ServerProcess("serve", export, "--log", str(log))
    for content in sent.values():
        assert server.predict(content).status_code == 200
    assert server.predict(b"no picture").status_code == 415
    server.stop()
    before = {path.name for path in tmp_path.iterdir()}
    assert before == {"export", "log.csv"}
    server = ServerProcess("serve", export, "--log", str(log), "--keep-images", str(kept))
    for content in sent.values():
        server.predict(content)
        server.predict(content)
    server.stop()
    rows = list(csv.DictReader(log.open(newline="")))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sent.items()}
    assert [row["sha256"] for row in rows[:3]] == list(hashes.values())
    assert len(rows) == 9
    assert {row["model"] for row in rows} == {model_id(export)}
    assert [row["none"] for row in rows[:3]] == ["0", "0", "1"]
    assert float(rows[0]["probability"]) > 0.9
    files = sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file())
    assert files == [
        f"sure/green/{hashes['green'][:16]}.png",
        f"sure/red/{hashes['red'][:16]}.png",
        f"unsure/red/{hashes['black'][:16]}.png",
    ]
    assert (kept / files[0]).read_bytes() == sent["green"]


def test_an_answer_that_cannot_be_written_down_is_given_and_counted(export, tmp_path):
    log = tmp_path / "logs/log.csv"
    log.parent.mkdir()
    server = ServerProcess("serve", export, "--log", str(log))
    log.unlink()
    log.parent.rmdir()
    assert server.predict(picture("red")).json()["label"] == "red"
    assert "pawprint_records_failed_total 1.0" in server.get("/metrics").text
    assert "Traceback" not in server.stop()


def test_a_class_that_leads_out_of_the_folder_is_refused(export, tmp_path):
    reference = json.loads((export / "reference.json").read_text())
    reference["classes"] = {"../../x": 90}
    (export / "reference.json").write_text(json.dumps(reference))
    with pytest.raises(SystemExit, match="cannot be the name of a folder"):
        Keeper(tmp_path / "kept", export)


def test_a_full_disk_keeps_no_picture(export, tmp_path, monkeypatch):
    keeper = Keeper(tmp_path / "kept", export)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**8))
    with pytest.raises(OSError, match="less than a gigabyte"):
        keeper.keep(b"x", "ab" * 32, ".png", {"label": "red", "probability": 1.0, "none": False})
    assert list((tmp_path / "kept").rglob("*")) == []


def test_a_jpeg_with_two_pictures_is_a_jpeg(export, tmp_path):
    from PIL import Image

    red, other = Image.new("RGB", (40, 40), "red"), Image.new("RGB", (40, 40), "blue")
    red.save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=[other])
    content = (tmp_path / "two.jpg").read_bytes()
    with Image.open(tmp_path / "two.jpg") as image:
        assert image.format == "MPO"
    answer, suffix = classify(Classifier(export), content, 10**6)
    assert (answer["label"], suffix) == ("red", ".jpg")


def test_kept_pictures_join_the_data_as_a_folder(project: Project, export):
    """They lie in folders of their labels, as one's own pictures do: both go together."""
    make_pictures(project.path / "data/own", {"red": 2, "green": 2})
    keeper = Keeper(project.path / "kept", export)
    for i, (label, sure) in enumerate([("red", 0.99), ("green", 0.5)]):
        keeper.keep(
            picture(label, (64, 64 + i)),
            f"{i}" * 64,
            ".png",
            {"label": label, "probability": sure, "none": False},
        )
    for sure in ("sure", "unsure"):
        shutil.copytree(project.path / "kept" / sure, project.path / "data/own", dirs_exist_ok=True)
    project.edit(**{"gather.source": "folder"})
    project.stage("gather")
    rows = csv.DictReader((project.path / "data/gathered.csv").open())
    kept = {row["url"]: row["label"] for row in rows if row["url"].endswith(".png")}
    assert kept == {f"red/{'0' * 16}.png": "red", f"green/{'1' * 16}.png": "green"}
