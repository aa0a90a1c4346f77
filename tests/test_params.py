"""A mistake in params.yaml ends the stage with one line: key, value and what is allowed."""

import gc
import importlib
import sys

import pytest

import stages
from pawprint.compute.settings import EngineParams
from pawprint.params import StageError, load_params, load_yaml, run_stage
from pawprint.training.recipe import TrainParams
from stages.gather import GatherParams
from stages.split import SplitParams
from tests.support.project import ROOT, Project


@pytest.mark.parametrize(
    ("stage", "key", "value", "words"),
    [
        ("split", "split.valid_pct", 1.2, ["split.valid_pct", "1.2", "less than 1"]),
        ("split", "split.valid_pct", "much", ["split.valid_pct", "'much'", "number"]),
        ("split", "split.valid_pct", 0.8, ["valid_pct + test_pct", "below 0.9"]),
        ("split", "split.sed", 7, ["split.sed", "7", "did you mean split.seed?"]),
        ("verify", "verify.max_size", 0, ["verify.max_size", "0", "greater than or equal to 32"]),
        ("verify", "verify.quality", True, ["verify.quality", "True", "integer"]),
        ("gather", "gather.source", "wolves", ["gather.source", "'wolves'", "sample"]),
        ("gather", "gather.source", 3, ["gather.source", "3", "string"]),
        ("features", "train.arch", "resnet5000", ["train.arch", "'resnet5000'", "timm"]),
        ("lr_find", "lr_find.end_lr", 1e-9, ["lr_find", "start_lr must be below end_lr"]),
        ("clean", "clean.auto", "guess", ["clean.auto", "'guess'", "'flag', 'drop' or 'relabel'"]),
        (
            "export",
            "export.model",
            "best",
            ["export.model", "'best'", "'linear', 'first', 'retrained' or 'better'"],
        ),
        (
            "interpret",
            "compute.device",
            "tpu",
            ["compute.device", "'tpu'", "'auto', 'cpu', 'cuda' or 'mps'"],
        ),
    ],
)
def test_a_bad_value_is_named_in_one_line(project: Project, stage, key, value, words):
    project.edit(**{key: value})
    before = sorted(path for path in project.path.rglob("*") if "__pycache__" not in path.parts)
    line = project.failing_stage(stage)
    assert all(word in line for word in words), line
    assert (
        sorted(path for path in project.path.rglob("*") if "__pycache__" not in path.parts)
        == before
    )


@pytest.mark.parametrize(
    ("key", "values"),
    [("workers", [0, -1, 1.5, "all", True, None]), ("gpus_per_worker", [-1, "one", None])],
)
def test_an_impossible_number_of_workers_is_refused(project: Project, key: str, values: list):
    for value in values:
        project.edit(**{f"compute.{key}": value})
        with pytest.raises(StageError, match=rf"compute\.{key} is .*; it should be auto, or a"):
            load_params("compute", EngineParams, project.path / "params.yaml")


@pytest.mark.parametrize("lr", [0, -1, 11, "fast", True, None, [0.1]])
def test_an_impossible_learning_rate_is_refused(project: Project, lr):
    project.edit(**{"train.lr": lr})
    with pytest.raises(
        StageError, match=r"train\.lr is .*; it should be a number above 0 and at most 10, or auto"
    ):
        load_params("train", TrainParams, project.path / "params.yaml")


def test_a_whole_number_is_a_learning_rate_and_2e_3_is_a_number(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("lr: 2.0e-3", "lr: 2e-3"))
    assert load_params("train", TrainParams, tmp_path / "params.yaml").lr == 0.002
    (tmp_path / "params.yaml").write_text(text.replace("lr: 2.0e-3", "lr: 1"))
    assert load_params("train", TrainParams, tmp_path / "params.yaml").lr == 1.0


def test_a_nested_key_is_named_with_its_path(project: Project):
    project.edit(**{"train.augment.flip": 2})
    with pytest.raises(
        StageError, match=r"train\.augment\.flip is 2; it should be less than or equal to 1"
    ):
        load_params("train", TrainParams, project.path / "params.yaml")


def test_a_missing_key_and_a_missing_section_are_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("gather:\n  source: sample\n")
    with pytest.raises(StageError, match=r"gather\.path is missing"):
        load_params("gather", GatherParams, path)
    with pytest.raises(StageError, match="no section `split`"):
        load_params("split", SplitParams, path)


@pytest.mark.parametrize("content", ["a: [1", "- 1\n", "", "\tx: 1"])
def test_a_broken_yaml_is_named(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(StageError, match=r"params\.yaml"):
        load_yaml(path)


def test_every_knob_has_a_comment():
    lines = (ROOT / "params.yaml").read_text().splitlines()
    knobs = [
        line
        for line in lines
        if line.startswith(" ") and ":" in line and not line.strip().endswith(":")
    ]
    assert len(knobs) > 30
    assert [line for line in knobs if "  # " not in line] == []


def test_an_unknown_nested_key_is_named_with_its_neighbours(project: Project):
    project.edit(**{"train.augment.flop": 0.5})
    with pytest.raises(
        StageError, match=r"train\.augment\.flop .*did you mean train\.augment\.flip\?.*rotate"
    ):
        load_params("train", TrainParams, project.path / "params.yaml")


@pytest.mark.parametrize(("word", "searched"), [("-m", False), ("stages/lr.py", True)])
def test_garbage_is_looked_for_once_a_stage_has_been_imported(monkeypatch, word, searched):
    try:
        monkeypatch.setattr(sys, "argv", [word])  # what it is while `python -m` imports the stage
        importlib.reload(stages)
        assert gc.isenabled() == searched
        seen = []
        run_stage(lambda: seen.append(gc.isenabled()))
        assert seen == [True]
    finally:
        gc.enable()
        gc.unfreeze()
