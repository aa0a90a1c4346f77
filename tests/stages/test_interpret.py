"""The report: whole in one small file, usable without a mouse, and drawn without the test split."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image

from pawprint.training.model import ModelConfig
from stages.interpret import (
    beside,
    confusion_matrix,
    data_address,
    draw_confusion,
    galleries,
    grad_cam,
    overlay,
    reliability,
)
from tests.support.project import Project

MADE = (
    "report.html",
    "data/predictions.csv",
    "metrics/interpret.json",
    "plots/top_losses.png",
    "data/cleaned.csv",
)
TRAIN = (
    "--table",
    "data/split.csv",
    "--model",
    "models/first.safetensors",
    "--metrics",
    "metrics/train",
)


# All stages in one process, because importing torch for each of them takes longer than they do.
CODE = """
import importlib, sys
for word in sys.argv[1].split():
    sys.argv = [word, *{train!r}] if word == "train" else [word]
    importlib.import_module("stages." + word).main()
""".replace("{train!r}", repr(TRAIN))


def run_all(project: Project, stages: str) -> None:
    done = project.run(sys.executable, "-c", CODE, stages)
    assert done.returncode == 0, done.stderr


def made(project: Project) -> dict[str, bytes]:
    names = (*MADE, "models/first.safetensors", "metrics/baseline.json", "data/label_errors.csv")
    return {name: (project.path / name).read_bytes() for name in names}


@pytest.mark.slow
def test_no_stage_before_evaluate_opens_a_test_picture(small: Project):
    small.edit(**{"clean.folds": 2, "lr_find.num_it": 20})
    run_all(small, "gather verify split baseline lr_find train interpret clean")
    before = made(small)
    table = pd.read_csv(small.path / "data/split.csv")
    for path in table.loc[table["split"] == "test", "path"]:
        (small.path / path).write_bytes(b"scrambled")
    run_all(small, "baseline lr_find train interpret clean")
    assert made(small) == before


@pytest.mark.slow
def test_the_report_opens_alone_on_a_phone_and_answers_to_keys(browser, small: Project):
    run_all(small, "gather verify split baseline lr_find train interpret")
    report = small.path / "report.html"
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
    figures = json.loads((small.path / "metrics/interpret.json").read_text())
    assert ("Most confused" in text) == (figures["error_rate"] > 0)
    assert page.locator("svg circle").count() == len(
        pd.read_csv(small.path / "metrics/reliability.csv")
    )
    with Image.open(small.path / "plots/confusion.png") as picture:
        assert min(picture.size) > 200


def test_grad_cam_finds_what_the_class_depends_on():
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=2).eval()
    config = ModelConfig(
        "test_efficientnet", ("a", "b"), 96, "squish", "bilinear", (0.5,) * 3, (0.5,) * 3
    )
    pictures = torch.randint(0, 255, (10, 96, 96, 3), dtype=torch.uint8)
    heat = grad_cam(model, pictures, [0, 1] * 5, config, torch.device("cpu"))
    assert heat.shape[0] == 10
    assert 0 <= heat.min() <= heat.max() <= 1
    assert np.array_equal(heat, grad_cam(model, pictures, [0, 1] * 5, config, torch.device("cpu")))
    assert overlay(pictures[0].numpy(), heat[0]).size == (160, 160)


def test_reliability_counts_every_picture_once():
    bins = reliability(np.array([0.55, 0.58, 0.95, 1.0]), np.array([True, False, True, True]))
    assert [(each["pictures"], each["right"]) for each in bins] == [(2, 0.5), (2, 1.0)]


def test_galleries_hold_what_they_say():
    valid = pd.DataFrame(
        {
            "path": [f"{i}.jpg" for i in range(6)],
            "label": list("aaabbb"),
            "prediction": list("aabbba"),
            "probability": [0.9, 0.6, 0.8, 0.95, 0.7, 0.99],
            "loss": [0.1, 0.5, 1.6, 0.05, 0.36, 4.6],
        }
    )
    shown = {title: rows["path"].tolist() for title, _, rows in galleries(valid, ["a", "b"])}
    assert shown["Least sure"][0] == "1.jpg"
    assert set(shown["Right, at random"]) == {"0.jpg", "1.jpg", "3.jpg", "4.jpg"}
    assert shown["a: most correct"] == ["0.jpg", "1.jpg"]
    assert shown["b: most incorrect"] == ["5.jpg"]


def test_the_confusion_matrix_is_drawn_the_same_each_time_and_not_without_a_class():
    valid = pd.DataFrame({"label": list("aab"), "prediction": list("aba")})
    confusion = confusion_matrix(valid, ["a", "b", "c"])
    assert confusion.to_numpy().tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0]]
    drawn = draw_confusion(confusion)
    assert drawn == draw_confusion(confusion)
    assert drawn != draw_confusion(confusion.T + 1)


def test_the_model_stands_last_beside_every_baseline():
    names = ("majority_error", "pixel_l1_error", "pixel_l2_error", "linear_error")
    rows = beside({name: 0.5 for name in names}, 0.1)
    assert len(rows) == 5
    assert rows[-1] == ("this model", 0.1)


def test_four_hundred_thumbnails_stay_under_five_megabytes():
    """The default report holds some 48 + 16 + 8 (2 + 2 classes) pictures; 400 noisy ones are the worst to expect."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    blotches = Image.fromarray(noise).resize((160, 160))
    assert 400 * len(data_address(blotches)) < 5_000_000
