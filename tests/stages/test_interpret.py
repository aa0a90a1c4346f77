"""The report: whole in one small file, usable without a mouse, and drawn without the test split."""

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tests.support.project import TRAIN, Project
from tests.support.warm import run_stages

MADE = (
    "report.html",
    "data/predictions.csv",
    "metrics/interpret.json",
    "plots/top_losses.png",
    "data/cleaned.csv",
)


def run_all(project: Project, stages: str) -> None:
    lines = [[name, *TRAIN] if name == "train" else [name] for name in stages.split()]
    done = run_stages(project.path, *lines)
    assert done.returncode == 0, done.stderr


def made(project: Project) -> dict[str, bytes]:
    names = (*MADE, "models/first.safetensors", "metrics/baseline.json", "data/label_errors.csv")
    return {name: (project.path / name).read_bytes() for name in names}


LEARN = "baseline lr_find lr train interpret clean"


@pytest.fixture(scope="module")
def finished(small_once: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project after every stage up to clean, for all tests here."""
    project = small_once.copy(tmp_path_factory.mktemp("finished") / "project")
    project.edit(**{"clean.folds": 2, "lr_find.num_it": 20})
    run_all(project, LEARN)
    return project


@pytest.mark.slow
def test_no_stage_before_evaluate_opens_a_test_picture(finished: Project, tmp_path: Path):
    """But verify, split and features, which learn nothing from any picture."""
    small = finished.copy(tmp_path / "project")
    before = made(small)
    table = pd.read_csv(small.path / "data/split.csv")
    for path in table.loc[table["split"] == "test", "path"]:
        (small.path / path).write_bytes(b"scrambled")
    run_all(small, LEARN)
    assert made(small) == before


@pytest.mark.slow
def test_the_report_opens_alone_on_a_phone_and_answers_to_keys(browser, finished: Project):
    report = finished.path / "report.html"
    assert report.stat().st_size < 5_000_000
    page = browser.new_page(viewport={"width": 360, "height": 740}, offline=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(
        "[...document.images].every(image => image.complete && image.naturalWidth > 0 && image.alt)"
    )
    page.focus("#looks")
    page.keyboard.press("Space")
    assert page.locator(".look").first.is_visible()
    assert not page.locator(".plain").first.is_visible()
    text = page.inner_text("main")
    for part in (
        "linear head on frozen features",
        "Confusion matrix",
        "calibration error",
        "Least sure",
        "recall",
        "support",
    ):
        assert part in text
    for part in (
        "Right, at random",
        "Wrong, at random",
        "red: most correct",
        "green: most incorrect",
        "precision",
    ):
        assert part in text
    figures = json.loads((finished.path / "metrics/interpret.json").read_text())
    assert ("Most confused" in text) == (figures["error_rate"] > 0)
    assert page.locator("svg circle").count() == len(
        pd.read_csv(finished.path / "metrics/reliability.csv")
    )
    with Image.open(finished.path / "plots/confusion.png") as picture:
        assert min(picture.size) > 200
