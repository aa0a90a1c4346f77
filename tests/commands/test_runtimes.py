"""`--runtime openvino` and `openvino-bf16`: the same answers as onnxruntime's, or none of it."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from pawprint.commands import runtimes
from pawprint.commands.exported import load
from pawprint.exporting.shipped.predict import Classifier
from tests.support.commands import SECONDS, ServerProcess, predict
from tests.support.exported import picture, write_export
from tests.support.project import ROOT

openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


class Other:
    """A runtime that is always sure of the last class, in place of OpenVINO."""

    asked = 0

    def __init__(self, *_) -> None: ...

    def run(self, names, inputs):
        Other.asked += 1
        number = len(inputs["pictures"])
        return [np.tile(np.float32([0, 0, 1]), (number, 1)), np.full(number, -99, np.float32)]


@pytest.fixture
def project(tmp_path):
    """A project with an exported folder and two test pictures, one of which is none of these."""
    write_export(tmp_path / "export")
    (tmp_path / "data").mkdir()
    rows = ["path,label,split", "data/red.png,red,test", "data/night.png,blue,test"]
    rows += ["data/gone.png,red,test", "data/train.png,red,train"]
    (tmp_path / "data/split.csv").write_text("\n".join(rows))
    (tmp_path / "data/red.png").write_bytes(picture("red"))
    (tmp_path / "data/night.png").write_bytes(picture("black"))
    (tmp_path / "data/train.png").write_bytes(b"is not looked at")
    return tmp_path


@openvino
@pytest.mark.parametrize("beside", ["the test split", "nothing"])
@pytest.mark.parametrize("number", [1, 2])
def test_predict_answers_as_with_onnxruntime(project, beside, number):
    if beside == "nothing":
        (project / "data/split.csv").unlink()
    files = [project / "data/red.png", project / "data/night.png"][:number]
    one, other = (
        predict(project / "export", *files, "--runtime", name, "--format", "csv")
        for name in ("onnxruntime", "openvino")
    )
    assert (other.returncode, other.stderr) == (0, "")
    assert other.stdout == one.stdout


@openvino
def test_in_bf16_it_answers_the_same_or_says_that_this_cpu_cannot(project):
    model = project / "export"
    done = predict(model, project / "data/red.png", "--runtime", "openvino-bf16")
    from openvino import Core

    if "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert (done.returncode, done.stderr, done.stdout.split()[1]) == (0, "", "red")
    else:
        assert "this CPU does not compute in bf16; try --runtime openvino" in done.stderr


@openvino
def test_a_cpu_without_bf16_is_one_line(project, monkeypatch):
    from openvino import Core

    monkeypatch.setattr(Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(SystemExit, match=r"^pawprint: openvino-bf16 cannot run .* in bf16; try "):
        load(project / "export", runtime="openvino-bf16")
    assert load(project / "export", runtime="openvino").session


@openvino
def test_serve_answers_with_it(project):
    server = ServerProcess("serve", project / "export", "--runtime", "openvino")
    try:
        answers = [server.predict(picture(colour)).json()["label"] for colour in ("blue", "red")]
    finally:
        server.stop()
    assert answers == ["blue", "red"]


MANY = """
import faulthandler, sys
faulthandler.dump_traceback_later(120, exit=True)
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from pawprint.commands import runtimes
from pawprint.commands.exported import load

classifier = load(Path(sys.argv[1]), threads=1, runtime="openvino")
assert isinstance(classifier.session, runtimes.OpenVino)
from openvino.tools.ovc import telemetry_utils
assert telemetry_utils.tm.__name__.endswith("telemetry_stub"), "it would report that it is used"
colours = ["red", "green", "blue"] * 30
pictures = [np.zeros((32, 32, 3), np.uint8) for _ in colours]
for square, colour in zip(pictures, colours, strict=True):
    square[..., classifier.config["classes"].index(colour)] = 200
with ThreadPoolExecutor(8) as pool:
    answers = list(pool.map(lambda square: classifier.classify([square])[0], pictures))
assert [answer["label"] for answer in answers] == colours
assert [answer["label"] for answer in classifier.classify(pictures)] == colours
"""


@openvino
def test_from_many_threads_it_answers_each_with_its_own(project):
    """In a process that can be given up: threads of OpenVINO that wait for each other cannot."""
    command = [sys.executable, "-c", MANY, str(project / "export")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr


@openvino
def test_a_model_that_openvino_cannot_read_is_one_line(project, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(runtimes, "OpenVino", refuse)
    with pytest.raises(SystemExit, match=r"^pawprint: openvino cannot run .*: no such operator$"):
        load(project / "export", runtime="openvino")


def test_without_openvino_one_line_says_what_to_install(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SystemExit, match=r"^pawprint: .*pip install 'pawprint\[openvino\]'`$"):
        load(project / "export", runtime="openvino")
    assert "openvino = [" in (ROOT / "pyproject.toml").read_text()


def test_another_answer_about_the_test_split_is_refused(project, monkeypatch):
    monkeypatch.setattr(runtimes, "OpenVino", Other)
    said = r"^pawprint: openvino .* 2 of 2 test pictures, such as \S*red.png; leave out --runtime"
    with pytest.raises(SystemExit, match=said):
        load(project / "export", runtime="openvino")


def test_another_answer_about_none_of_these_is_one_too():
    sure = np.float32([[0.1, 0.9]])
    low, high = np.float32([0.4]), np.float32([0.6])
    assert runtimes.agree([sure, low], [sure, low], 0.5)
    assert not runtimes.agree([sure, low], [sure, high], 0.5)


def test_without_a_test_split_a_runtime_that_differs_never_answers(project, monkeypatch, capsys):
    (project / "data/split.csv").unlink()
    monkeypatch.setattr(runtimes, "OpenVino", Other)
    monkeypatch.setattr(runtimes, "COMPARED", 2)
    asked = Other.asked
    classifier = load(project / "export", runtime="openvino")
    squares = [np.full((32, 32, 3), (200, 0, 0), np.uint8)] * 5
    assert [classifier.classify([square])[0]["label"] for square in squares] == ["red"] * 5
    assert Other.asked == asked + 1
    assert capsys.readouterr().err.count("disagree") == 1


def test_without_a_test_split_the_first_pictures_are_compared(project, monkeypatch):
    (project / "data/split.csv").unlink()
    known = Classifier(project / "export").session
    counts = {"known": 0, "new": 0}

    class Counted:
        def __init__(self, name):
            self.name = name

        def run(self, names, inputs):
            counts[self.name] += 1
            return known.run(names, inputs)

    checked = runtimes.Checked(Counted("known"), Counted("new"), -10.0)
    for _ in range(runtimes.COMPARED + 20):
        checked.run(["probabilities", "none_score"], {"pictures": np.zeros((1, 32, 32, 3), "u1")})
    assert counts == {"known": runtimes.COMPARED, "new": runtimes.COMPARED + 20}
