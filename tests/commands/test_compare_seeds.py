"""`pawprint compare --seeds N`: each architecture trained several times."""

import argparse
import contextlib
import csv
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pawprint.commands import compare
from pawprint.commands.compare import runs as compare_runs
from pawprint.judging.errors import error_rate


class Experiments:
    """Stands for DVC and git: what each experiment would have found, by architecture and seed."""

    def __init__(self, wrong: dict[str, list[int]]) -> None:
        self.wrong, self.asked, self.returncode = wrong, [], 0
        self.environments: list[dict[str, str]] = []
        self.stdout = open(os.devnull, "rb")  # noqa: SIM115

    def start(self, command: list[str], **options: object) -> "Experiments":
        self.asked.append(command)
        self.environments.append(options["env"])
        arch = command[command.index("--set-param") + 1].removeprefix("train.arch=")
        self.returncode = int(arch not in self.wrong)
        return self

    def wait(self) -> int:
        return self.returncode

    def git(self, word: str, *words: str) -> subprocess.CompletedProcess[str]:
        if word != "show":
            return subprocess.CompletedProcess([], 0, "ab" + "c" * 38)
        (what,) = words
        ref, _, path = what.partition(":")
        arch, _, seed = ref.rpartition("/")[2].removeprefix("compare-").partition("-seed")
        found = error_rate(self.wrong[arch][int(seed or 42) - 42], 50)
        content = {"as_gathered": {"first": found}} if "evaluate" in path else found
        return subprocess.CompletedProcess([], 0, json.dumps(content))

    def fetch(self, ref: str, folder: Path) -> None:
        assert ref.endswith(folder.name)
        folder.mkdir()
        save_file({"a": torch.zeros(2, 3)}, folder / "first.safetensors")


@contextlib.contextmanager
def here(origin: compare_runs.Origin, beside_others: bool) -> Iterator[Path]:
    """Stands for the clone in which an experiment runs."""
    yield Path()


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiments:
    fake = Experiments({"resnet18": [5, 1, 3], "resnet34": [2, 2, 2]})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare_runs.subprocess, "Popen", fake.start)
    monkeypatch.setattr(compare_runs, "clone", here)
    monkeypatch.setattr(compare_runs, "dvc", lambda *words: subprocess.CompletedProcess([], 0, ""))
    for module in (compare, compare_runs):
        monkeypatch.setattr(module, "git", fake.git)
    monkeypatch.setattr(compare, "fetch_model", fake.fetch)
    monkeypatch.setattr(compare, "seconds_per_picture", lambda homes: [0.01 for _ in homes])
    return fake


def test_seeds_give_mean_and_spread_and_only_the_seed_differs(
    experiments: Experiments, capsys: pytest.CaptureFixture
):
    assert compare.compare_trained(["resnet18", "resnet34"], 3) == 0
    changes = [
        [word for word in command if word.startswith(("train.", "split.", "compare-"))]
        for command in experiments.asked
    ]
    assert changes == [
        [f"compare-{arch}-seed{seed}", f"train.arch={arch}", f"train.seed={seed}"]
        for arch in ("resnet18", "resnet34")
        for seed in (42, 43, 44)
    ]
    with open("compare/compare.csv", newline="") as file:
        best, other = csv.DictReader(file)
    assert (best["arch"], best["seeds"]) == ("resnet34", "3")
    assert (best["valid_error"], best["valid_spread"]) == ("0.04", "0")
    assert (other["valid_error"], other["valid_spread"]) == ("0.06", "0.04")
    assert (other["valid_best"], other["valid_worst"]) == ("0.02", "0.1")
    seeds = Path("compare/seeds.csv").read_text().splitlines()
    assert seeds[:3] == [
        "arch,seed,valid_error,test_error",
        "resnet18,42,0.1,0.1",
        "resnet18,43,0.02,0.02",
    ]
    assert len(seeds) == 7
    said = capsys.readouterr().out
    row = "| resnet18 | 6.0 ± 4.0 % (2.0 to 10.0) | 6.0 ± 4.0 % (2.0 to 10.0) | 10.0 | 0.0 |"
    assert row in said
    assert "each is trained with 3 seeds" in said
    assert "dvc exp apply compare-resnet34-seed42" in said  # the first, not the luckiest
    assert Image.open("compare/compare.png").width > 1000


def test_an_architecture_that_fails_with_one_seed_is_left_out(
    experiments: Experiments, capsys: pytest.CaptureFixture
):
    assert compare.compare_trained(["vgg11", "resnet18"], 2) == 1
    assert "vgg11 is left out: dvc ended without a word (train.seed 42)" in capsys.readouterr().err
    assert len(experiments.asked) == 3
    assert "vgg11" not in Path("compare/compare.csv").read_text()


def test_without_seeds_the_seed_is_that_of_params_yaml(experiments: Experiments):
    Path("compare").mkdir()
    Path("compare/seeds.csv").write_text("of an earlier call\n")
    assert compare.compare_trained(["resnet18"], None) == 0
    assert not [word for word in experiments.asked[0] if "seed" in word]
    with open("compare/compare.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert "seeds" not in row
    assert (row["valid_error"], row["valid_pictures"]) == ("0.1", "50")
    assert not Path("compare/seeds.csv").exists()


def test_side_by_side_on_a_cluster_they_give_the_same_table(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    assert compare.compare_trained(["resnet18", "resnet34"], 3) == 0
    alone = [Path(f"compare/{name}.csv").read_bytes() for name in ("compare", "seeds")]
    assert not any("PAWPRINT_ENGINE" in each for each in experiments.environments)
    experiments.environments.clear()
    assert compare.compare_trained(["resnet18", "resnet34"], 3, 4, on_cluster=True) == 0
    assert [Path(f"compare/{name}.csv").read_bytes() for name in ("compare", "seeds")] == alone
    assert len(experiments.environments) == 6
    for each in experiments.environments:  # one worker for each
        assert (each["PAWPRINT_ENGINE"], each["PAWPRINT_WORKERS"]) == ("ray", "1")


def test_without_a_cluster_compare_says_so_in_one_line(tmp_path: Path, monkeypatch):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("compute:\n  address: 127.0.0.1:1\n")
    with pytest.raises(SystemExit, match=r"pawprint: compute\.address: no Ray cluster answers"):
        compare.count_workers()


@pytest.mark.parametrize("number", ["1", "0", "-2", "two", "2.5"])
def test_a_number_of_seeds_without_a_spread_is_refused(number: str, capsys: pytest.CaptureFixture):
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--seeds={number}", "resnet18"])
    assert "should be a whole number from 2 on" in capsys.readouterr().err
