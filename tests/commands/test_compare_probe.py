"""`pawprint compare --probe`: architectures ranked by a linear head on their features."""

import argparse
import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pawprint.commands import compare
from pawprint.commands.compare import probe as compare_probe
from pawprint.commands.compare.agreement import describe_agreement
from pawprint.params import StageError
from pawprint.tables import read_table, to_csv
from pawprint.training.model import create_model
from tests.support.project import Project, make_pictures

PER_CLASS = 14


@pytest.fixture
def drawn(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with two colours in data/split.csv, as split would write it; the working folder."""
    home = project.path
    make_pictures(home / "data/images", {"red": PER_CLASS, "green": PER_CLASS}, size=64)
    write_split(home, {})
    (home / ".dvc").mkdir()
    sizes = {"train.size": 64, "compute.device": "cpu", "compute.threads": 1}
    project.edit(**sizes, **{"train.pretrained": False})
    monkeypatch.chdir(home)
    return project


def write_split(home: Path, splits: dict[int, str]) -> None:
    """Write data/split.csv; splits: of some pictures of each class, by number, else train."""
    rows = []
    for label in ("green", "red"):
        for i in range(PER_CLASS):
            path = f"data/images/{label}/{i:03}.jpg"
            rows.append([path, label, f"{label}{i}", splits.get(i, "train")])
    content = to_csv(["path", "label", "group", "split"], rows)
    (home / "data/split.csv").write_bytes(content)


def ask(*words: str) -> object:
    """Run `pawprint compare --probe`; its exit code, or its line."""
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    with pytest.raises(SystemExit) as ended:
        compare.run(parser.parse_args(["--probe", *words]))
    return ended.value.code


def blind(params: object, classes: list[str]) -> tuple[nn.Module, object]:
    """A model as always, but a ViT that sees nothing."""
    model, config = create_model(params, classes)
    if params.arch == "test_vit":
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
    return model, config


def test_the_body_whose_features_tell_the_classes_apart_comes_first(
    drawn: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(compare_probe, "create_model", blind)
    code = ask("test_vit", "resnet1x", "test_efficientnet", "test_vit")
    said, errors = capsys.readouterr()
    assert code == 1
    assert re.search(r"pawprint: resnet1x is left out: params.yaml: train.arch is 'resn", errors)

    with Path("compare/probe.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["arch"], second["arch"]) == ("test_efficientnet", "test_vit")
    assert float(first["error"]) < 0.2 < 0.4 < float(second["error"])
    assert float(first["low"]) <= float(first["error"]) <= float(first["high"])
    assert int(first["pictures"]) == 2 * PER_CLASS
    assert first["weights"] == "random"
    model, _ = create_model(compare_probe.recipe_of(train_section(), "test_efficientnet"), ["a"])
    body = sum(each.numel() for name, each in model.named_parameters() if "classifier" not in name)
    width = model.get_classifier().in_features
    assert int(first["parameters"]) == body + 2 * (width + 1)
    assert said.index("| test_efficientnet (random weights)") < said.index("| test_vit (random")
    assert "compare/compare.csv is missing" in said
    assert Path("compare/probe.md").read_text() in said


def train_section() -> dict:
    return compare_probe.load_yaml(Path("params.yaml"))["train"]


def test_test_pictures_are_never_opened(drawn: Project, capsys: pytest.CaptureFixture):
    write_split(drawn.path, {0: "test", 1: "valid"})
    for label in ("red", "green"):
        (drawn.path / f"data/images/{label}/000.jpg").unlink()
    assert ask("test_efficientnet") == 0
    assert f"on the {2 * PER_CLASS - 2} pictures of train and valid" in capsys.readouterr().out


def test_the_first_architecture_with_random_weights_is_a_control(
    drawn: Project, capsys: pytest.CaptureFixture
):
    """Its weights differ from those of the file that train.weights names; without one, it is all
    random, and one row is enough.
    """
    assert ask("--random", "test_efficientnet") == 0
    assert capsys.readouterr().out.count("| test_efficientnet") == 1

    recipe = compare_probe.recipe_of(train_section(), "test_efficientnet")
    model, _ = create_model(recipe, ["a", "b"])
    torch.save(model.state_dict(), drawn.path / "data/weights/own.pt")
    assert ask("--random", "test_efficientnet", "test_vit") == 1
    said, errors = capsys.readouterr()
    assert "| test_efficientnet |" in said
    assert "| test_efficientnet (random weights) |" in said
    assert (
        "pawprint: test_vit is left out: train.weights: data/weights/own.pt does not fit" in errors
    )


def test_the_same_is_said_every_time_and_in_any_order(drawn: Project):
    def errors() -> dict[str, str]:
        table = read_table("compare/probe.csv")
        return dict(zip(table["arch"], table["error"], strict=True))

    ask("test_efficientnet", "test_vit")
    before = errors()
    ask("test_vit", "test_efficientnet")
    assert errors() == before


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (None, "data/split.csv is missing: `dvc repro` makes it"),
        ("path,label,split\na,b,train\n", "data/split.csv has no column group"),
        ("path,label,group,split\na,x,a,train\nb,y,b,test\n", "too few pictures to judge"),
        ("path,label,group,split\na,x,a,train\nb,y,b,train\n", "too few pictures to judge"),
        ("path,label,group,split\na,x,a,train\nb,y,a,train\nc,y,a,train\n", "too few pictures"),
    ],
)
def test_what_cannot_be_probed_is_said_in_one_line(drawn: Project, damage: str | None, line: str):
    if damage is None:
        Path("data/split.csv").unlink()
    else:
        Path("data/split.csv").write_text(damage)
    said = ask("test_efficientnet")
    assert line in str(said)
    assert "\n" not in str(said)


def test_a_control_needs_a_probe(capsys: pytest.CaptureFixture):
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    with pytest.raises(SystemExit, match="--random is a control for --probe"):
        compare.run(parser.parse_args(["--random", "resnet18"]))
    with pytest.raises(SystemExit):
        parser.parse_args(["--probe", "--seeds", "2", "resnet18"])
    assert "not allowed with" in capsys.readouterr().err


def test_near_duplicates_are_in_one_fold():
    """Features are noise, the same for a picture and its copy: only a seen copy tells the label."""
    noise = np.random.default_rng(0)
    target = np.repeat(noise.permutation(np.repeat([0, 1], 30)), 2)
    seen = np.repeat(noise.normal(size=(60, 400)), 2, axis=0).astype(np.float32)
    together, apart = np.repeat(np.arange(60), 2), np.arange(120)
    assert compare_probe.cross_validate(seen, target, together).mean() > 0.3
    assert compare_probe.cross_validate(seen, target, apart).mean() < 0.15


def test_a_class_that_other_folds_lack_is_judged_wrong():
    target = np.array([0] * 10 + [1] * 10 + [2] * 2)
    seen = np.eye(3)[target].astype(np.float32)
    groups = np.array([*range(20), 20, 20])
    wrong = compare_probe.cross_validate(seen, target, groups)
    assert wrong.tolist() == [False] * 20 + [True] * 2
    few = compare_probe.cross_validate(seen[8:11], target[8:11], groups[8:11])
    assert few[2]


def agreement(trained: list[float], probed: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4)) -> str:
    """The sentence about the architectures a, b, c, …"""
    return describe_agreement(
        dict(zip("abcdef", probed, strict=False)), dict(zip("abcdef", trained, strict=False))
    )


def test_agreement_with_trained_models_is_said_in_plain_words():
    same = agreement([0.05, 0.06, 0.07, 0.08])
    assert "4 in common: the same order; 6 of 6 pairs are ordered alike (Kendall's tau 1.00" in same
    assert "p = 0.042" in same  # one order of 24
    assert same.endswith("The best by probing, a, is the best trained one too.")

    near = agreement([0.06, 0.05, 0.07, 0.08])
    assert "nearly the same order; 5 of 6 pairs" in near
    assert "tau 0.67, Spearman's rho 0.80" in near
    assert near.endswith("a, is number 2 of the 4 trained ones; the best of those is b.")

    assert "rather the reverse order; 0 of 6" in agreement([0.4, 0.3, 0.2, 0.1])
    assert "5 of 6 pairs are ordered alike, 1 tied" in agreement([0.1, 0.1, 0.2, 0.3])
    assert "not known; by training, all of them" in agreement([0.1, 0.1, 0.1])
    assert "not known; by probing, all of them" in agreement([0.1, 0.2, 0.3], (0.2, 0.2, 0.2))
    assert "has only 2 of these architectures, and at least 3" in agreement([0.1, 0.2])
    assert "has none of these architectures" in describe_agreement({"a": 0.1}, {"z": 0.1})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("arch,valid_error\na,0.1\nb,0.2\nc,0.3\n", "the same order; 3 of 3 pairs"),
        ("arch,valid_error\na,0.1\nb,nan\n", "compare.csv is damaged"),
        ("arch,valid_error\na,x\n", "compare.csv is damaged"),
        ("arch,error\na,0.1\n", "compare.csv is damaged"),
        ('arch,valid_error\n"a', "compare.csv is damaged"),
    ],
)
def test_the_trained_models_are_those_of_the_last_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, said: str
):
    """A control with random weights does not count."""
    monkeypatch.chdir(tmp_path)
    Path("compare").mkdir()
    Path("compare/compare.csv").write_text(content)
    wrong = np.arange(10)
    found = [
        compare_probe.Probed(arch, random, 64, 1000, 0.1, wrong < number)
        for arch, random, number in (
            ("a", False, 1), ("b", False, 2), ("c", False, 3), ("a", True, 9)
        )
    ]  # fmt: skip
    assert said in compare_probe.say_agreement(found)


def test_an_unknown_section_is_said():
    with pytest.raises(StageError, match=r"params.yaml has no section `train`"):
        compare_probe.recipe_of(None, "resnet18")
