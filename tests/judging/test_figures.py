"""Figures of a model's answers."""

import numpy as np
import pandas as pd
import pytest

from pawprint.judging.figures import calibration_error, reliability, tabulate


def test_reliability_counts_every_picture_once():
    bins = reliability(np.array([0.55, 0.58, 0.95, 1.0]), np.array([True, False, True, True]))
    assert [(each["pictures"], each["right"]) for each in bins] == [(2, 0.5), (2, 1.0)]


def test_predictions_have_loss_and_margin():
    rows = pd.DataFrame({"path": ["x", "y"], "label": ["a", "b"], "split": "valid"})
    answers = tabulate(rows, np.array([[0.75, 0.25], [0.9, 0.1]]), ["a", "b"])
    assert answers["prediction"].tolist() == ["a", "a"]
    assert answers["margin"].tolist() == pytest.approx([0.5, -0.8])
    assert answers["loss"].tolist() == pytest.approx([-np.log(0.75), -np.log(0.1)])


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    assert calibration_error(np.full(10, 0.75), np.arange(10) < 5) == pytest.approx(0.25)
    assert calibration_error(np.ones(4), np.ones(4, dtype=bool)) == 0


def test_a_thousand_classes_are_tabulated_without_a_warning(recwarn: pytest.WarningsRecorder):
    names = [f"class {i}" for i in range(1000)]
    rows = pd.DataFrame({"path": ["x", "y"], "label": names[:2], "split": "valid"})
    answers = tabulate(rows, np.full((2, 1000), 0.001), names)
    assert list(answers.columns[-1000:]) == [f"p_{name}" for name in names]
    assert len(recwarn) == 0
