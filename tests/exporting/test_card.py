"""The model card: short with a thousand classes, and honest about those that nothing measures."""

from typing import Any

import pandas as pd
import pytest

from pawprint.exporting import card
from pawprint.judging.errors import error_rate
from pawprint.params import load_params
from pawprint.training.model import ModelConfig
from pawprint.training.recipe import TrainParams
from tests.support.project import ROOT


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(card, "dependencies", dict)


def card_of(classes: int, rare: int = 0, pairs: int = 0) -> str:
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
    }
    split = pd.DataFrame(rows, columns=["label", "split"])
    return card.model_card(config, load_params("train", TrainParams), split, **figures)


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
