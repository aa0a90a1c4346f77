"""dvc.yaml is true: a stage opens what it declares, declares what it opens, and docs agree."""

import functools
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pawprint.params import load_yaml
from tests.support.project import ROOT, STAGES, Project, clone, expect, warm_path

PIPELINE = load_yaml(ROOT / "dvc.yaml")["stages"]
# Neither is content: the params are declared by key, and dvc.yaml is where all of it is declared.
DECLARED_OTHERWISE = {"params.yaml", "dvc.yaml", "pawprint/__init__.py", "stages/__init__.py"}

# What a stage reads only if cleaning changed nothing, or if the linear head is exported; of the
# folder of weights, export looks at the names alone.
READ_AT_TIMES = {
    "retrain": {"models/first.safetensors", "metrics/train.csv", "metrics/train.json"},
    "export": {"data/features.safetensors", "data/images.csv", "data/weights"},
}


def paths_of(project: Path, entries: list) -> list[str]:
    """The paths of deps or outs in dvc.yaml, with the values of params.yaml put in."""
    params = load_yaml(project / "params.yaml")

    def value(match: re.Match) -> str:
        section, key = match[1].split(".")
        return str(params[section][key])

    paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
    return [re.sub(r"\$\{([\w.]+)\}", value, path) for path in paths]


def source_of(path: str) -> str:
    """The .py file of a compiled one; any other path as it is."""
    match = re.fullmatch(r"(.*)__pycache__/(\w+)\..*", path)
    return f"{match[1]}{match[2]}.py" if match else path


def within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


@pytest.fixture(scope="module")
def opened(origin: Project) -> dict[str, set[tuple[str, str]]]:
    """What each stage opened in a whole run, as (r or w, path)."""
    found = {}
    for name in PIPELINE:
        text = (origin.path.parent / f"opened/{name}.txt").read_text()
        rows = [line.split(" ", 1) for line in text.splitlines()]
        found[name] = {(letter, source_of(path)) for letter, path in rows}
    return found


@pytest.mark.parametrize("name", PIPELINE)
def test_a_stage_opens_nothing_that_it_does_not_declare(origin: Project, opened, name: str):
    stage = PIPELINE[name]
    outs = paths_of(origin.path, [*stage.get("outs", []), *stage.get("metrics", [])])
    declared = [*paths_of(origin.path, stage["deps"]), *outs]
    read = {path for letter, path in opened[name] if letter == "r"}
    strange = {
        path
        for path in read - DECLARED_OTHERWISE
        if not any(within(path, each) or within(each, path) for each in declared)
        and not Path(path).name.startswith(".")  # a file on its way, or a checkpoint of our own
        and not path.startswith("data/gather.partial")
    }
    assert strange == set()


@pytest.mark.parametrize("name", PIPELINE)
def test_a_stage_writes_nothing_that_it_does_not_declare(origin: Project, opened, name: str):
    stage = PIPELINE[name]
    outs = paths_of(origin.path, [*stage.get("outs", []), *stage.get("metrics", [])])
    written = {path for letter, path in opened[name] if letter == "w"}
    strange = {
        path
        for path in written
        if not any(within(path, each) for each in outs)
        and not Path(path).name.startswith(".")
        and not path.startswith("data/gather.partial")
        and not path.endswith(".py")  # compiled on import
    }
    assert strange == set()


@pytest.mark.parametrize("name", PIPELINE)
def test_a_stage_declares_nothing_that_it_does_not_open(origin: Project, opened, name: str):
    read = {path for letter, path in opened[name] if letter == "r"}
    declared = set(paths_of(origin.path, PIPELINE[name]["deps"])) - READ_AT_TIMES.get(name, set())
    assert [each for each in sorted(declared) if not any(within(path, each) for path in read)] == []


def test_dvc_yaml_names_code_by_folders_and_stays_short():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 240
    for name, stage in PIPELINE.items():
        code = [path for path in stage["deps"] if path.startswith("pawprint/")]
        files = [path for path in code if path.count("/") > 1]
        assert files == [], f"{name} names files inside a folder of the library"


def test_where_the_work_is_done_reruns_no_stage():
    keys = {key for stage in PIPELINE.values() for key in stage.get("params", [])}
    assert {key for key in keys if key.startswith("compute")} == {
        "compute.device",
        "compute.threads",
    }


# --- what follows what ---


@functools.cache
def arrows() -> set[tuple[str, str]]:
    """Which stage reads what another writes."""
    makers = {}
    for name, stage in PIPELINE.items():
        for out in paths_of(ROOT, [*stage.get("outs", []), *stage.get("metrics", [])]):
            makers[out] = name
    return {
        (maker, name)
        for name, stage in PIPELINE.items()
        for dep in paths_of(ROOT, stage["deps"])
        for out, maker in makers.items()
        if within(dep, out)
    }


def followers(stage: str) -> set[str]:
    """The stages that may run again because of this one."""
    found, new = set(), {stage}
    while new:
        new = {after for before, after in arrows() if before in new} - found
        found |= new
    return found


def test_another_learning_rate_reruns_neither_clean_nor_what_comes_before_training():
    untouched = {"gather", "verify", "split", "baseline", "lr_find", "show_batch", "clean"}
    untouched |= {"features"}
    assert not untouched & (followers("lr") | followers("train") | followers("interpret"))


def diagram_arrows(text: str) -> set[tuple[str, str]]:
    """The arrows of the mermaid block of a document."""
    block = re.search(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert block
    found = set()
    for line in block[1].splitlines():
        steps = [re.split(r"\s*&\s*", part.strip()) for part in line.split("-->")]
        for before, after in itertools.pairwise(steps):
            found |= {(a, b) for a in before for b in after}
    return found


def reachable(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The pairs, and those that follow from them."""
    closed = set(pairs)
    while True:
        more = {(a, d) for a, b in closed for c, d in closed if b == c} - closed
        if not more:
            return closed
        closed |= more


def test_the_diagram_of_the_readme_is_dvc_yamls():
    drawn = diagram_arrows((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {name for pair in drawn for name in pair} == set(PIPELINE)
    assert drawn <= arrows(), "an arrow that dvc.yaml does not have"
    assert reachable(drawn) == reachable(arrows())


def test_the_stages_are_in_the_order_of_dvc_yaml():
    assert list(PIPELINE) == STAGES


# --- in a real run ---


@pytest.fixture
def chain(origin: Project, tmp_path: Path) -> Iterator[Project]:
    """A checkout after a whole run."""
    project = clone(origin, tmp_path / "project")
    expect(project, "dvc", "pull")
    yield project
    shutil.rmtree(project.path)


def changed(project: Project) -> set[str]:
    """The stages whose deps or params are not those of the last run."""
    status = project.run("dvc", "status", "--json")
    assert status.returncode == 0, status.stderr
    return set(json.loads(status.stdout))


def test_another_suggestion_of_lr_find_retrains_only_if_lr_is_auto(chain: Project):
    chain.edit(**{"lr_find.num_it": 60})
    expect(chain, "dvc", "repro", "lr", PATH=warm_path())
    assert not changed(chain) & {"train", "retrain"}
    chain.edit(**{"train.lr": "auto"})
    expect(chain, "dvc", "repro", "lr", PATH=warm_path())
    assert {"train", "retrain"} <= changed(chain)
    before = (chain.path / "metrics/lr.json").read_text()
    chain.edit(**{"lr_find.num_it": 100})
    expect(chain, "dvc", "repro", "lr", PATH=warm_path())
    assert (chain.path / "metrics/lr.json").read_text() != before


def test_other_weights_under_the_same_name_retrain(chain: Project):
    using = {"features"}  # it writes the body that all others read
    weights = chain.path / "data/weights/mine.safetensors"
    weights.write_bytes(b"one")
    assert using <= changed(chain)
    chain.edit(**{"train.weights": "data/weights/mine.safetensors"})
    expect(chain, "dvc", "commit", "--force", *using)
    assert not using & changed(chain)
    weights.write_bytes(b"another")
    assert using <= changed(chain)
