"""Figures of a model's answers."""

import numpy as np
import pandas as pd
import pytest

from pawprint.judging.figures import (
    OTHERS,
    calibration_error,
    confusion_table,
    not_measured,
    reliability,
    summarise,
    tabulate,
    worst_classes,
)


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


def test_a_class_without_a_picture_is_not_measured_and_not_among_the_worst():
    answers = pd.DataFrame({"label": list("aab"), "prediction": list("acb")})
    figures = summarise(answers.assign(loss=1.0, probability=0.5), list("abcd"))
    assert figures["classes"]["c"] == {"precision": 0.0, "recall": None, "support": 0}
    assert figures["classes"]["d"] == {"precision": None, "recall": None, "support": 0}
    assert not_measured(figures) == ["c", "d"]
    assert [name for name, _ in worst_classes(figures)] == ["a", "b"]


def test_the_matrix_of_a_thousand_classes_names_the_most_confused():
    names = [f"class {i:03}" for i in range(1000)]
    answers = pd.DataFrame({"label": names, "prediction": [*names[:998], names[0], names[0]]})
    table = confusion_table(answers)
    assert len(table) == 1000
    assert set(table["actual"]) == {"class 000", "class 998", "class 999", OTHERS}
    few = answers.head(30)
    assert confusion_table(few)["actual"].tolist() == names[:30]
    wrong = answers.assign(prediction=names[::-1])
    assert len(set(confusion_table(wrong).to_numpy().flat)) == 30
