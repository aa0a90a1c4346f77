"""The model card: short with a thousand classes, and honest about those that nothing measures."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pawprint.exporting import card
from pawprint.judging.errors import error_rate
from pawprint.judging.licences import LicenceCount
from pawprint.params import load_params
from pawprint.training.model import ModelConfig
from pawprint.training.recipe import TrainParams
from tests.support.project import ROOT


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(card, "dependencies", dict)
    monkeypatch.setattr(card, "count_licences", lambda paths: (LICENCES[:], DATASETS[:]))


LICENCES = [LicenceCount("none stated", 3, 0)]
DATASETS: list[str] = []


def card_of(
    classes: int, rare: int = 0, pairs: int = 0, recipe: TrainParams | None = None, **more: object
) -> str:
    """A card of so many classes, of which `rare` only train, with so many confused pairs."""
    names = tuple(f"class {i:04}" for i in range(classes))
    rows = [
        (name, split)
        for i, name in enumerate(names)
        for split in (("train",) if i < rare else ("train", "valid", "test"))
    ]
    config = ModelConfig("resnet18", names, 64, "crop", "bicubic", (0.5,) * 3, (0.5,) * 3)
    none = {"threshold": 0.5, "test_kept": 0.95, "strangers": {}}
    figures: dict[str, Any] = {
        "model": "retrained",
        "source": "folder",
        "baselines": {name: error_rate(1, 3) for name in ("linear", "pixel_l1")},
        "test": error_rate(1, 3),
        "confusions": [(names[i], names[-1], 1) for i in range(pairs)],
        "difference": 1e-6,
        "stranger": none,
        "int8": {},
        "licence": "",
        "page": "gradio",
        "versions": {"gradio": "6.31.0"},
        **more,
    }
    split = pd.DataFrame(rows, columns=["label", "split"]).assign(path="")
    return card.model_card(config, recipe or load_params("train", TrainParams), split, **figures)


def test_three_classes_are_named_in_the_first_lines():
    text = card_of(3)
    assert "# class 0000 or class 0001 or class 0002?" in text
    assert "for 3 classes: class 0000, class 0001, class 0002." in text
    assert "| class 0001 | 1 train, 1 valid, 1 test |" in text
    assert "## Classes" not in text
    assert "not measured" not in text


def test_a_thousand_classes_are_one_folded_table_at_the_end():
    text = card_of(1000, rare=400, pairs=900)
    before, _, table = text.partition("## Classes")
    assert "# Which of 1000 classes?" in before
    assert len(before) < 8000
    assert "the most frequent of 900 confused pairs" in before
    assert "400 of 1000 classes have no test picture: their own error is not measured;" in before
    assert "| class 0999 | 1 | 1 | 1 |" in table
    assert "| class 0000 | 1 | 0 | 0 |" in table


def test_a_few_classes_without_a_test_picture_are_named():
    text = card_of(5, rare=2)
    assert (
        "2 of 5 classes have no test picture: their own error is not measured (class 0000, " in text
    )


# --- the front matter, as the Hub's own library reads it ---


def data_of(text: str) -> Any:
    hub = pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
    return hub.ModelCard(text).data


def test_the_front_matter_has_the_test_error_with_its_interval(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), "DATASETS", ["lab/beans"])
    data = data_of(card_of(3, licence="cc-by-4.0"))
    error = error_rate(1, 3)
    results = {each.metric_type: each.metric_value for each in data.eval_results}
    assert results == {
        "accuracy": pytest.approx(2 / 3, abs=1e-6),
        "error_rate": pytest.approx(1 / 3, abs=1e-6),
        "error_rate_low": pytest.approx(error["low"], abs=1e-6),
        "error_rate_high": pytest.approx(error["high"], abs=1e-6),
    }
    assert data.eval_results[1].metric_name == "error on 3 test pictures"
    assert data.eval_results[0].dataset_type == "lab/beans"
    assert (data.pipeline_tag, data.license, data.datasets) == (
        "image-classification",
        "cc-by-4.0",
        ["lab/beans"],
    )
    assert (data.sdk, data.sdk_version, data.app_file) == ("gradio", "6.31.0", "app.py")
    assert data.python_version == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_what_is_not_known_is_not_guessed():
    text = card_of(3)
    data = data_of(text)
    assert data.license is None
    assert data.datasets is None
    assert "states no licence for any of the 3 pictures" in text
    assert "Whoever made the model states no licence for it." in text


def test_the_base_model_is_timms_unless_the_weights_are_others(tmp_path: Path):
    recipe = load_params("train", TrainParams)
    none = {"weights": str(tmp_path)}
    for arch, known in [
        ("tf_efficientnet_lite0", "timm/tf_efficientnet_lite0.in1k"),
        ("resnet18", "timm/resnet18.a1_in1k"),
        ("resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
    ]:
        assert card.base_model_of(recipe.model_copy(update={"arch": arch, **none})) == known
    assert card.base_model_of(recipe.model_copy(update={"pretrained": False, **none})) == ""
    (tmp_path / "mine.safetensors").touch()
    mine = recipe.model_copy(update=none)
    assert card.base_model_of(mine) == ""
    assert "base_model" not in card_of(3, recipe=mine)


def test_licences_are_counted_in_a_table(monkeypatch: pytest.MonkeyPatch):
    counted = [LicenceCount("cc-by-4.0", 7, 2), LicenceCount("none stated", 2, 0)]
    monkeypatch.setitem(globals(), "LICENCES", counted)
    text = card_of(3)
    assert "| cc-by-4.0 | 7 | 2 |" in text
    assert "| none stated | 2 | 0 |" in text
