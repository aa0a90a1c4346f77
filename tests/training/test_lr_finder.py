"""The sweep of learning rates: what it suggests."""

import numpy as np
import pytest

from pawprint.training.lr_finder import suggest, valley
from stages.gather import open_source  # noqa: F401  (importing it must not need torch)


def test_lr_find_takes_the_middle_of_the_descent_and_admits_a_flat_curve():
    losses = np.array([1.0] * 5 + list(np.linspace(1, 0.2, 20)) + [0.5, 1.0, 2.0])
    lrs = np.geomspace(1e-5, 10, len(losses))
    assert 10 <= valley(losses) <= 18
    found = suggest(lrs, losses)
    assert lrs[5] < found["steep"] < lrs[25]
    assert found["minimum"] == pytest.approx(lrs[24] / 10)
    assert suggest(lrs, np.ones(28)) == {
        "valley": None,
        "steep": None,
        "minimum": None,
        "note": "the loss never fell",
    }
