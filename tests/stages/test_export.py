"""export/: the same bytes again, true figures, and nothing shipped that differs from the model."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from pawprint.commands.exported import load
from pawprint.exporting.browser import RUNTIME
from pawprint.exporting.front import split_front
from pawprint.exporting.shipped.predict import overlay
from pawprint.judging.errors import BASELINES, error_rate
from pawprint.params import StageError, load_params
from pawprint.tables import read_table, write_json
from pawprint.training.model import Head, create_model, save_model
from pawprint.training.recipe import TrainParams
from stages import export
from tests.support.project import ROOT, TINY, Project, make_pictures


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project up to `evaluate`; its models are a random body and a head for two colours."""
    project = Project(tmp_path_factory.mktemp("export") / "project")
    make_pictures(project.path / "data/own", {"red": 40, "green": 40})
    project.edit(**TINY)
    for name in ("gather", "verify", "split", "features", "baseline"):
        project.stage(name)
    shutil.copyfile(project.path / "data/split.csv", project.path / "data/cleaned.csv")
    torch.manual_seed(0)
    model, config = create_model(
        load_params("train", TrainParams, project.path / "params.yaml"), ["green", "red"]
    )
    table = read_table(project.path / "data/split.csv").query("split == 'train'")
    table["path"] = [str(project.path / path) for path in table["path"]]
    pictures = export.load_rows(table, config)
    seen = export.compute_features(model.eval(), pictures, config, torch.device("cpu"))
    red = torch.from_numpy((table["label"] == "red").to_numpy())
    way = seen[red].mean(dim=0) - seen[~red].mean(dim=0)
    scale = 8 / way.square().sum()
    middle = (seen[red].mean(dim=0) + seen[~red].mean(dim=0)) / 2
    weight, bias = (
        torch.stack([-way, way]) * scale,
        torch.stack([way @ middle, -way @ middle]) * scale,
    )
    Head(model).put(weight, bias)  # nearest class mean, written as a linear layer
    for name in ("first", "retrained", "better"):
        save_model(project.path / f"models/{name}.safetensors", model, config)
    write_json(
        project.path / "metrics/evaluate.json",
        {"better": "first", "as_gathered": dict.fromkeys(BASELINES, error_rate(1, 16))},
    )
    return project


@pytest.fixture
def ready(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the finished project as the working folder, to run the stage in this process."""
    project = object.__new__(Project)
    project.path = tmp_path / "project"
    shutil.copytree(finished.path, project.path)
    monkeypatch.chdir(project.path)
    return project


def exported() -> dict[str, bytes]:
    files = sorted(path for path in Path("export").rglob("*") if path.is_file())
    return {path.relative_to("export").as_posix(): path.read_bytes() for path in files}


def metrics() -> dict:
    return json.loads(Path("metrics/export.json").read_text())


def test_the_same_input_gives_the_same_bytes(ready: Project):
    export.main()
    first = exported()
    shutil.rmtree("export")
    ready.stage("export")  # in a process of its own
    assert exported() == first
    assert set(first) == {
        "model.onnx", "model.json", "reference.json", "README.md", "predict.py", "app.py",
        "requirements.txt", "pictures/__init__.py", "pictures/colours.py", "pictures/formats.py",
        "pictures/opening.py", "pictures/square.py",
    }  # fmt: skip

    # the page's versions are exact, and the card agrees with them
    text = first["requirements.txt"].decode()
    pinned = dict(line.partition("  #")[0].split("==") for line in text.splitlines())
    locked = Path("requirements.lock").read_text()
    assert all(f"\n{name}=={version}" in locked for name, version in pinned.items())
    front, rest = split_front(first["README.md"].decode(), "README.md")
    assert front["sdk_version"] == pinned["gradio"]
    assert "license" not in front
    assert "base_model" not in front  # random weights have none
    assert "states no licence for any of the 80 pictures" in rest


def test_the_figures_are_those_of_the_exported_graph(ready: Project):
    export.main()
    figures, reference = metrics(), json.loads(Path("export/reference.json").read_text())
    valid = read_table("data/cleaned.csv").query("split == 'valid'")
    classifier = load(Path("export"))
    answers = [classifier(Image.open(path)) for path in valid["path"]]
    assert reference["pictures"] == len(valid)
    assert reference["classes"] == {
        name: sum(answer["label"] == name for answer in answers) for name in ("green", "red")
    }
    assert reference["confidence"] == pytest.approx(
        sorted(answer["probability"] for answer in answers), abs=1e-4
    )
    assert reference["none"] == sum(answer["none"] for answer in answers)
    assert figures["none_of_these"]["valid_kept"] >= 0.95
    assert figures["test"]["wrong"] == 0
    assert figures["test"]["high"] > 0.1


def test_a_graph_that_differs_from_the_model_is_not_shipped(
    ready: Project, monkeypatch: pytest.MonkeyPatch
):
    right = export.to_onnx

    def slightly_wrong(graph, size):
        bias = graph.model.get_classifier().bias
        bias.data += torch.tensor([0.01, 0.0])
        content = right(graph, size)
        bias.data -= torch.tensor([0.01, 0.0])
        return content

    monkeypatch.setattr(export, "to_onnx", slightly_wrong)
    with pytest.raises(StageError, match="ONNX and torch disagree"):
        export.main()
    assert not Path("export").exists()
    assert not Path("metrics/export.json").exists()


def test_int8_is_used_while_its_error_on_valid_is_within_the_interval(ready: Project):
    ready.edit(**{"export.quantize": True})
    export.main()
    figures, first = metrics(), exported()
    assert figures["int8"]["kept"]
    assert figures["onnx_bytes"] == figures["int8"]["onnx_bytes"] == len(first["model.onnx"])
    kinds = {node.op_type for node in onnx.load_from_string(first["model.onnx"]).graph.node}
    assert "QuantizeLinear" in kinds
    assert "| int8 | used" in first["README.md"].decode()
    export.main()
    assert exported() == first


def test_int8_that_is_worse_is_measured_and_left(ready: Project, monkeypatch: pytest.MonkeyPatch):
    export.main()
    as_float = exported()

    def broken(content, pictures):
        model = onnx.load_from_string(content)
        names = [output.name for output in model.graph.output]
        swapped = onnx.helper.make_node(
            "Neg", ["logits_were"], [names[0]]
        )  # the unlikelier class wins
        for node in model.graph.node:
            node.output[:] = ["logits_were" if name == names[0] else name for name in node.output]
        model.graph.node.append(swapped)
        return model.SerializeToString()

    ready.edit(**{"export.quantize": True})
    monkeypatch.setattr(export, "quantize", broken)
    export.main()
    figures = metrics()
    assert not figures["int8"]["kept"]
    assert figures["int8"]["valid"]["error_rate"] == 1
    assert figures["int8"]["test"]["error_rate"] == 1
    assert figures["test"]["wrong"] == 0
    assert exported()["model.onnx"] == as_float["model.onnx"]
    assert "tried, not used" in Path("export/README.md").read_text()


def test_pictures_of_something_else_are_measured(ready: Project):
    strange = ready.path / "data/strangers/sea"
    strange.mkdir(parents=True)
    for i in range(6):
        noise = np.random.default_rng(i).integers(0, 256, (90, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(strange / f"{i}.png")
    export.main()
    kinds = metrics()["none_of_these"]["strangers"]
    assert set(kinds) == {"noise", "plain colours", "blocks", "text", "photographs"}
    assert kinds["photographs"]["pictures"] == 6
    assert all(0 <= each["auroc"] <= 1 and 0 <= each["accepted"] <= 1 for each in kinds.values())
    assert "| photographs | 6 |" in Path("export/README.md").read_text()
    (strange / "7.png").write_bytes(b"no picture")
    line = ready.failing_stage("export")
    assert "export.strangers: data/strangers/sea/7.png cannot be read" in line
    assert line.endswith("take it out of the folder")


def test_the_card_is_whole(ready: Project):
    ready.edit(**{"export.licence": "Apache 2"})
    with pytest.raises(StageError, match="should be a licence as the Hub spells it"):
        export.main()
    ready.edit(**{"export.licence": "apache-2.0"})
    export.main()
    card = Path("export/README.md").read_text()
    for words in (
        "license: apache-2.0",
        "0 wrong, an error of 0.0 %",
        "95 % interval 0.0 to",
        "source `folder`; 48 train, 16 valid, 16 test",
        "learning rate 0.002",
        "deep nearest neighbours",
        "stay with their owners",
        "## Limits",
    ):
        assert words in card, words
    assert str(ready.path) not in card


def test_the_cards_hashes_are_dvcs_and_compiled_python_changes_none(ready: Project, tmp_path: Path):
    for project in (ready, other := Project(tmp_path / "other")):
        (project.path / "pawprint/exporting/shipped/__pycache__").mkdir(exist_ok=True)
        (
            project.path / "pawprint/exporting/shipped/__pycache__/predict.cpython-312.pyc"
        ).write_text(str(project.path))
    export.main()
    card = Path("export/README.md").read_text()
    shutil.copytree("data/images", other.path / "data/images")
    (other.path / "dvc.yaml").unlink()  # it calls the pictures its own
    paths = ("data/images", "pawprint/exporting", "stages/export.py")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "add", *paths]):
        done = other.run(*command)
        assert done.returncode == 0, done.stderr
    for path in paths:
        (hash,) = re.findall(r"md5: (\S+)", (other.path / f"{path}.dvc").read_text())
        assert f"| {path} | {hash} |" in card


def test_the_benchmark_of_scores_runs_on_a_finished_project(ready: Project):
    strange = ready.path / "data/strangers"
    Image.new("RGB", (70, 70), "white").save(strange / "white.png")
    done = ready.run(
        sys.executable,
        "-m",
        "benchmarks.none_of_these",
        str(ready.path),
        str(strange),
        PYTHONPATH=str(ROOT),
    )
    assert done.returncode == 0, done.stderr
    rows = [line.rsplit(maxsplit=4) for line in done.stdout.splitlines()[1:]]
    kinds = {"noise", "plain colours", "blocks", "text", "photographs"}
    scores = ("neighbours", "mahalanobis", "energy", "confidence")
    assert {tuple(row[0].split(maxsplit=1)) for row in rows} == {
        (score, kind) for score in scores for kind in kinds
    }


def test_a_model_that_explains_itself_names_training_pictures_in_the_browser_too(
    ready: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    export.main()
    before = exported()
    assert "nearest.json" not in before
    ready.edit(**{"export.explain": True, "export.page": "browser"})
    monkeypatch.setattr(export, "find_runtime", lambda: runtime)
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    for name, _ in RUNTIME.values():
        (runtime / name).touch()
    export.main()
    files = exported()
    assert not set(files) & {"app.py", "requirements.txt"}
    assert "sdk:" not in files["README.md"].decode()
    assert "sdk: static" in files["browser/README.md"].decode()
    for name in ("model.onnx", "model.json", "nearest.json"):
        assert files[f"browser/{name}"] == files[name]
    # every file that the page is made of is kept for when there is no network
    kept = set(json.loads(re.findall("FILES = (.*);", files["browser/sw.js"].decode())[0]))
    there = {name.removeprefix("browser/") for name in files if name.startswith("browser/")}
    assert kept == {"./", *there} - {"README.md", "sw.js"}
    classifier = load(Path("export"))
    assert classifier.config["explains"] == ["maps", "nearest"]
    train = read_table("data/cleaned.csv").query("split == 'train'")
    for path, label in zip(train["path"][:3], train["label"][:3], strict=True):
        plain = classifier(path)
        assert set(plain) == {"label", "probability", "none", "none_score", "probabilities"}
        answer = classifier(path, explain=True)
        assert {key: answer[key] for key in plain} == plain
        first, *others = answer["nearest"]
        assert first["picture"] == Path(path).stem
        assert first["label"] == label
        assert first["similarity"] == pytest.approx(1, abs=1e-5)
        assert len(others) == 4
        heat = np.array(answer["heat"])
        assert heat.max() == 1
        assert heat.min() >= 0
        look = overlay(classifier.prepare(path), answer["heat"])
        assert look.size == (64, 64)
