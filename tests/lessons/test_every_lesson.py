"""What holds for all lessons: they run from a served archive, and repeat exactly."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pawprint.params import load_yaml
from tests.support.lessons import LESSONS, Lesson
from tests.support.project import ROOT
from tests.support.world import Server
from tests.test_layout import FILES, imports_of

EXTRAS = {"segmentation": "segmentation_models_pytorch", "titanic": "openpyxl"}
GATHERED = [name for name in LESSONS if name != "sgd"]
SECTIONS = [
    (name, section)
    for name in LESSONS
    for section in load_yaml(ROOT / f"lessons/{name}/params.yaml")
]


def needs_extra(name: str) -> None:
    """Skip if a package that this lesson alone needs is not installed."""
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason="the extra `lessons` is not installed")


def test_these_are_the_lessons():
    folders = {path.name for path in (ROOT / "lessons").iterdir() if (path / "dvc.yaml").is_file()}
    assert folders == set(LESSONS)


@pytest.mark.parametrize("name", LESSONS)
def test_what_a_lesson_makes_stays_out_of_the_cache(name: str):
    """`dvc pull` of the classifier would fail for what nobody has pushed."""
    for stage in load_yaml(ROOT / f"lessons/{name}/dvc.yaml")["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind, []):
                assert isinstance(out, dict), f"{out} is cached"
                assert [options["cache"] for options in out.values()] == [False]


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_from_a_served_archive_to_its_metrics_twice_with_the_same_bytes(
    lesson, tmp_path: Path, name: str
):
    needs_extra(name)
    with Server({}) as server:
        first, second = lesson(name), Lesson(tmp_path / "again", name)
        if name in GATHERED:
            for each in (first, second):
                each.serve(server, first.sample())
        first.run()
        second.run()
    before, after = first.outs(), second.outs()
    same = {path for path in before if path != "data/gathered.csv"}  # its source holds the address
    assert {path for path in same if before[path] != after.get(path)} == set()
    figures = [json.loads(before[path]) for path in before if re.match(r"metrics/.*\.json", path)]
    assert figures
    assert all(figures)
    pictures = [
        Image.open(io.BytesIO(before[path])) for path in before if path.startswith("plots/")
    ]
    assert all(picture.convert("L").getextrema() == (0, 255) for picture in pictures)  # not blank


@pytest.mark.parametrize("name", GATHERED)
def test_the_sample_is_the_same_every_time_and_another_with_another_seed(lesson, name: str):
    small = lesson(name)
    files = small.sample()
    assert small.sample() == files
    small.edit(**{"gather.seed": 7})
    assert small.sample() != files


@pytest.mark.parametrize(("name", "section"), SECTIONS)
def test_an_unknown_key_in_params_yaml_is_one_line_that_names_it(lesson, name, section):
    needs_extra(name)
    small = lesson(name)
    small.edit(**{f"{section}.sede": 1})
    stage = next(
        stage for stage, about in small.stages.items() if section in about.get("params", [])
    )
    assert f"unknown key {section}.sede" in small.fail(stage)


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_is_short_and_declares_its_plots(name: str):
    folder = ROOT / "lessons" / name
    scripts = [path for path in folder.glob("*.py") if path.name != "sample.py"]
    assert 1 <= len(scripts) <= 3
    assert all(len(path.read_text().splitlines()) <= 300 for path in folder.glob("*.py"))
    assert len((folder / "README.md").read_text().splitlines()) <= 60
    pipeline = load_yaml(folder / "dvc.yaml")
    assert pipeline.get("plots") or any("plots" in stage for stage in pipeline["stages"].values())


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_a_row_in_the_readme_and_a_section_in_the_docs(name: str):
    assert f"(lessons/{name}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"lessons/{name})" in (ROOT / "docs/lessons.md").read_text(encoding="utf-8")


def test_the_classifier_depends_on_no_lesson():
    assert "lessons" not in (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    for folder in ("pawprint", "stages"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(r"(import|from) lessons", path.read_text(encoding="utf-8")), path


@pytest.mark.slow
def test_dvc_runs_every_pipeline_of_the_repository_from_its_root(tmp_path: Path):
    for name in ("sgd", "titanic"):
        needs_extra(name)
        Lesson(tmp_path, name)
    for library in (
        "params.py",
        "tables.py",
        "watch.py",
        "compute",
        "pictures",
        "sources",
        "judging",
    ):
        target = tmp_path / "pawprint" / library
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(ROOT / "pawprint" / library)

    def dvc(*words: str) -> str:
        command = [sys.executable, "-m", "dvc", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    dvc("init", "-q")
    dvc("repro", "-P")
    assert len(list(tmp_path.rglob("dvc.lock"))) == 2
    assert "Running stage" not in dvc("repro", "-P")


def code_of(script: Path) -> set[str]:
    """Every file of the library that a script imports, itself or through others."""
    found: set[str] = set()
    waiting = imports_of(script.read_text(encoding="utf-8"), script.stem)
    while waiting:
        name = waiting.pop()
        if name in FILES and name not in found:
            found.add(name)
            path = FILES[name]
            waiting |= imports_of(path.read_text(encoding="utf-8"), name, path.stem == "__init__")
    return {FILES[name].relative_to(ROOT).as_posix() for name in found}


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_declares_the_code_that_it_imports(name: str):
    folder = ROOT / "lessons" / name
    for stage, about in load_yaml(folder / "dvc.yaml")["stages"].items():
        script = folder / about["cmd"].split()[1]
        code = code_of(script)
        if stage == "gather":
            code |= code_of(folder / "sample.py")
        declared = [dep.removeprefix("../../") for dep in about["deps"]]
        assert {each for each in code if not any(within(each, dep) for dep in declared)} == set()
        assert about["cmd"].split()[1] in about["deps"]


def within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
