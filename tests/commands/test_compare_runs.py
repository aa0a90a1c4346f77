"""The experiments of `pawprint compare` under the real DVC: many at once, and on a Ray cluster."""

import csv
import json
import re
from pathlib import Path

import pytest

from pawprint.commands.compare.runs import name_of, ref_of, run_experiments
from pawprint.params import load_yaml
from tests.support.cluster import start_nodes
from tests.support.project import TRAIN, Project, at, begin, commit, compare_here, expect

QUICK = """\
stages:
  split:
    cmd: echo pictures > pictures
    outs: [pictures]
  features:
    cmd: python -m stages.features
    deps: [pictures, stages/features.py]
    params: [train]
    outs:
      - found.json: {cache: false}
"""
STAGE = """\
import json
import sys
from pathlib import Path
from pawprint.params import load_yaml

train = load_yaml(Path("params.yaml"))["train"]
if train["arch"] == "none":
    sys.exit("features: there is no architecture none")
with open("found.json", "w") as file:
    json.dump([train["arch"], train["seed"], "as committed"], file)
"""


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in git, in which this process is, with two stages that take no time."""
    project = at(tmp_path / "project")
    (project.path / "stages").mkdir(parents=True)
    (project.path / "dvc.yaml").write_text(QUICK)
    (project.path / "params.yaml").write_text("train:\n  arch: ''\n  seed: 1\n")
    (project.path / "stages/__init__.py").touch()
    (project.path / "stages/features.py").write_text(STAGE)
    expect(project, "git", "init", "-q")
    expect(project, "dvc", "init", "-q")
    expect(project, "dvc", "config", "core.analytics", "false")
    expect(project, "dvc", "repro", "-q", "split")
    commit(project)
    monkeypatch.chdir(project.path)
    return project


@pytest.mark.slow
def test_experiments_that_begin_together_do_not_meet(quick: Project):
    """They have what is not committed, and leave the project as it is."""
    (quick.path / "stages/features.py").write_text(STAGE.replace("committed", "changed"))
    before = expect(quick, "git", "status", "--porcelain")
    head = expect(quick, "git", "rev-parse", "HEAD").strip()
    expect(quick, "git", "update-ref", ref_of(head, name_of("none", 42)), head)
    archs, seeds = ["a", "none", "b"], [42, 43]
    failed = run_experiments(archs, seeds, together=6, on_cluster=True)
    assert list(failed) == ["none"], failed
    assert re.fullmatch(
        r"features: there is no architecture none \(train.seed 4[23]\)", failed["none"]
    )
    refs = expect(quick, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    expected = {ref_of(head, name_of(arch, seed)): [arch, seed] for arch in "ab" for seed in seeds}
    assert refs == sorted(expected)
    for ref, (arch, seed) in expected.items():
        found = json.loads(expect(quick, "git", "show", f"{ref}:found.json"))
        assert found == [arch, seed, "as changed"]
    assert expect(quick, "git", "status", "--porcelain") == before
    assert not list((quick.path / ".dvc/tmp").glob("compare-*"))


@pytest.mark.slow
def test_a_comparison_on_a_cluster_finds_what_one_machine_finds(
    small: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    """Two seeds at a time; an architecture that cannot be trained is one line."""
    pytest.importorskip("ray.train", reason="the extra `ray` is not installed")
    changes = {"train.freeze_epochs": 1, "train.epochs": 1, "clean.folds": 2, "compute.threads": 1}
    small.edit(**changes)
    begin(small)
    words = ("test_resnet", "resnet1x", "--seeds", "2", "--engine", "ray")
    with start_nodes() as nodes:
        small.edit(**{"compute.address": nodes.address})
        code, _, errors = compare_here(small, monkeypatch, capfd, *words)
    assert code == 1
    assert "test_resnet is left out" not in errors, errors
    # the project's DVC knows what they ran
    runs = Path(expect(small, "dvc", "cache", "dir").strip()) / "runs"
    made = [out["path"] for entry in runs.glob("*/*/*") for out in load_yaml(entry)["outs"]]
    assert made.count("export") == 2, made
    assert not list(runs.rglob("*.partial"))
    assert re.search(
        r"^pawprint: resnet1x is left out: \w+: params.yaml: train.arch is 'resnet1x'; it should be"
        r".* \(train.seed 4[23]\)$",
        errors,
        re.MULTILINE,
    )
    with (small.path / "compare/seeds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arch"], row["seed"]) for row in rows] == [
        ("test_resnet", "42"),
        ("test_resnet", "43"),
    ]
    head = expect(small, "git", "rev-parse", "HEAD").strip()
    small.edit(**{"train.arch": "test_resnet"})
    for name in ("features", "baseline"):
        small.stage(name)
    small.edit(**{"train.seed": 43})
    for arguments in (("lr_find",), ("lr",), ("train", *TRAIN)):
        small.stage(*arguments)
    found = expect(
        small, "git", "show", f"{ref_of(head, name_of('test_resnet', 43))}:metrics/train.json"
    )
    assert found == (small.path / "metrics/train.json").read_text()
