"""`pawprint compare`: architectures on the user's own pictures, as experiments."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from pawprint.commands import compare, exported
from pawprint.commands.compare import count_parameters
from pawprint.commands.compare.runs import FROM, explain_failure, name_of
from pawprint.commands.compare.table import (
    Compared,
    family_of,
    markdown,
    plot,
)
from pawprint.judging.errors import error_rate
from tests.support.project import ROOT, Project, begin, commit, compare_here, expect


def row(arch: str, error: float, seconds: float, parameters: int = 5_000_000) -> Compared:
    found = error_rate(round(100 * error), 100)
    return Compared(arch, family_of(arch), parameters, seconds, found, found)


@pytest.mark.parametrize(
    ("arch", "family"),
    [
        ("tf_efficientnet_lite0", "efficientnet"),
        ("efficientnetv2_rw_t", "efficientnetv2"),
        ("tf_efficientnetv2_s.in21k", "efficientnetv2"),
        ("resnet18", "resnet"),
        ("convnext_tiny.fb_in22k", "convnext"),
        ("vit_tiny_patch16_224", "vit"),
        ("levit_128s", "levit"),
    ],
)
def test_the_family_is_the_names_first_word(arch: str, family: str):
    assert family_of(arch) == family


def test_names_of_experiments_are_names_that_git_allows():
    assert name_of("convnext_tiny.fb_in22k") == "compare-convnext_tiny-fb_in22k"


@pytest.mark.parametrize("arch", ["resnet18", "tf_efficientnet_lite0", "test_vit"])
def test_parameters_are_what_timm_counts(tmp_path: Path, arch: str):
    model = timm.create_model(arch, pretrained=False)
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    assert count_parameters(tmp_path / "m.safetensors") == sum(
        each.numel() for each in model.parameters()
    )


def test_a_failed_experiment_is_explained_by_its_stage_or_by_dvc():
    dvc = "ERROR: failed to reproduce 'retrain': failed to run: "
    dvc += "python -m stages.train --table x, exited with 1"
    assert (
        explain_failure(f"load: 3%|\rload: 9%|\ntrain: no weights\n{dvc}\n") == "train: no weights"
    )
    assert (
        explain_failure("ERROR: you are not inside of a DVC repository\n")
        == "ERROR: you are not inside of a DVC repository"
    )
    assert explain_failure(f"Traceback …\nAssertionError: Input height (64) is wrong\n{dvc}") == (
        "AssertionError: Input height (64) is wrong"
    )
    assert explain_failure("") == "dvc ended without a word"


def test_every_stage_that_the_architecture_decides_runs_in_an_experiment():
    """Also in the docs' commands: a stage that does not run keeps another architecture's files."""
    from pawprint.params import load_yaml

    stages = load_yaml(ROOT / "dvc.yaml")["stages"]
    made = {next(iter(out)) if isinstance(out, dict) else out: name
            for name, stage in stages.items() for out in stage.get("outs", [])}  # fmt: skip
    above = {
        name: {made[dep] for dep in stage["deps"] if dep in made} for name, stage in stages.items()
    }
    run = set(FROM)
    while more := {name for name in above if above[name] & run} - run:
        run |= more
    train = {name for name, stage in stages.items() if {"train", "train.arch"} & params_of(stage)}
    assert "features" in train
    assert train <= run
    assert not run & {"gather", "verify"}
    docs = (ROOT / "docs/experiments.md").read_text()
    starts = re.findall(r"--downstream (\w+)\s(\w+)", docs)
    assert starts
    assert set(starts) == {FROM}


def params_of(stage: dict) -> set[str]:
    return {name for name in stage.get("params", []) if isinstance(name, str)}


def test_the_table_shows_both_errors_with_their_intervals():
    text = markdown([row("resnet18", 0.05, 0.012), row("vit_tiny_patch16_224", 0.07, 0.02)])
    assert "| resnet18 | 5.0 % (2.2 to 11.2) | 5.0 % (2.2 to 11.2) | 12.0 | 5.0 |" in text
    assert text.index("resnet18") < text.index("vit_tiny")


def test_the_plot_has_a_dot_an_architecture_in_its_familys_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from matplotlib import pyplot

    kept = []
    monkeypatch.setattr(pyplot, "close", kept.append)
    rows = [
        row("resnet18", 0.05, 0.012),
        row("resnet50", 0.03, 0.03),
        row("vit_tiny_patch16_224", 0.07, 0.02),
    ]
    plot(rows, tmp_path / "p.png")
    monkeypatch.undo()
    valid, test = kept[0].axes
    for axis in (valid, test):
        dots = [each for each in axis.collections if len(each.get_offsets())]
        assert [tuple(each.get_offsets()[0].round(6)) for each in dots] == [
            (12, 5),
            (30, 3),
            (20, 7),
        ]
        first, second, third = (tuple(each.get_facecolor()[0]) for each in dots)
        assert first == second != third
    assert Image.open(tmp_path / "p.png").width > 1000
    pyplot.close(kept[0])


def test_a_machine_that_is_slow_for_a_while_is_slow_for_every_model(
    monkeypatch: pytest.MonkeyPatch,
):
    """Twice as slow in two fifths of the calls; each model's first calls take ten times as long."""
    now, calls = [0.0], [0]

    class Slow:
        def __init__(self, folder: Path) -> None:
            self.cost, self.config, self.asked = int(folder.name), {"size": 8}, 0

        def classify(self, pictures: list[np.ndarray]) -> None:
            assert [picture.shape for picture in pictures] == [(8, 8, 3)]
            calls[0] += 1
            self.asked += 1
            now[0] += self.cost * (2 if calls[0] <= 60 else 1) * (10 if self.asked < 3 else 1)

    monkeypatch.setattr(exported, "load", Slow)
    monkeypatch.setattr(compare.time, "perf_counter", lambda: now[0])
    assert compare.seconds_per_picture([Path("1"), Path("2")]) == [1, 2]
    assert calls == [150]


@pytest.mark.parametrize(
    "damage",
    [
        {"train": "no JSON"},
        {"train": "{}"},
        {"evaluate": '{"as_gathered": {"first": {"error_rate": 0.1}}}'},
        {"evaluate": "[]"},
        {"model": b""},
        {"model": b'\x08\0\0\0\0\0\0\0{"a"'},
        {"model": b"\x02\0\0\0\0\0\0\0[]"},
        {"model": b"\xff" * 8},
    ],
)
def test_damaged_metrics_and_models_are_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: dict
):
    found = error_rate(1, 20)
    texts = {
        "train": json.dumps(found),
        "evaluate": json.dumps({"as_gathered": {"first": found}}),
    } | damage
    save_file({"a": torch.zeros(2, 3)}, tmp_path / "first.safetensors")

    def show(word: str, path: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, texts[Path(path).stem])

    monkeypatch.setattr(compare, "git", show)
    if "model" in damage:
        (tmp_path / "first.safetensors").write_bytes(damage["model"])
    with pytest.raises(SystemExit) as stopped:
        compare.row_of("resnet18", "refs/exps/x", tmp_path, 0.1)
    assert "the metrics or the model of compare-resnet18 are damaged" in str(stopped.value)
    assert "\n" not in str(stopped.value)


def ask(project: Project, *words: str) -> tuple[int, str, str]:
    done = project.run(sys.executable, "-m", "pawprint", "compare", *words)
    return done.returncode, done.stdout, done.stderr


def test_what_cannot_be_compared_is_said_in_one_line(project: Project, tmp_path: Path):
    assert ask(project, "resnet18")[2] == (
        "pawprint: there is no dvc.yaml here; run `pawprint compare` in the project's folder\n"
    )
    (project.path / ".dvc").mkdir()
    expect(project, "git", "init", "-q")
    assert "make one with: git add -A && git commit -m begin" in ask(project, "resnet18")[2]
    commit(project)
    code, _, said = ask(project, "resnet18")
    assert code == 1
    assert said == (
        "pawprint: data/images is not what params.yaml and the source say; "
        "run first: dvc repro split\n"
    )


@pytest.mark.slow
def test_architectures_are_compared_on_the_users_own_pictures(
    small: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    """One that timm does not know, and one that works; the workspace stays as it was."""
    small.edit(**{"train.freeze_epochs": 1, "train.epochs": 1, "clean.folds": 2})
    begin(small)
    before = expect(small, "git", "status", "--porcelain", "--ignored")
    code, said, errors = compare_here(small, monkeypatch, capfd, "resnet1x", "test_resnet")
    assert code == 1
    assert re.search(
        r"pawprint: resnet1x is left out: \w+: params.yaml: train.arch is 'resnet1x'; it should be",
        errors,
    )
    with (small.path / "compare/compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [each["arch"] for each in rows] == ["test_resnet"]
    for each in rows:
        assert 0 < float(each["seconds"]) < 10
        assert (
            0
            <= float(each["valid_low"])
            <= float(each["valid_error"])
            <= float(each["valid_high"])
            <= 1
        )
        assert int(each["valid_pictures"]) > 10
    assert f"dvc exp apply compare-{rows[0]['arch']}" in said
    assert Image.open(small.path / "compare/compare.png").width > 1000
    after = expect(small, "git", "status", "--porcelain", "--ignored").splitlines()
    new = {line for line in set(after) - set(before.splitlines()) if "__pycache__" not in line}
    assert new <= {"?? compare/"}
    expect(small, "dvc", "exp", "apply", f"compare-{rows[0]['arch']}")
    assert json.loads((small.path / "export/model.json").read_text())["arch"] == rows[0]["arch"]
