"""The sweep of learning rates: what it suggests."""

import numpy as np
import pytest

from pawprint.training.lr_finder import suggest, valley


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


LRS = np.geomspace(1e-5, 10, 100)


def test_the_suggestions_are_read_off_the_descent():
    x = np.linspace(0, 1, 100)
    losses = (
        np.where(x < 0.3, 1.0, np.where(x < 0.7, 1.0 - (x - 0.3) * 2, 0.2 + (x - 0.7) * 5))
        - x * 1e-6
    )
    found = suggest(LRS, losses)
    lowest = LRS[losses.argmin()]
    assert found["minimum"] == pytest.approx(lowest / 10)
    assert LRS[29] < found["steep"] < lowest
    assert found["valley"] < lowest
    assert found["note"] == ""


@pytest.mark.parametrize(
    ("losses", "note"),
    [
        (np.full(100, 1.1), "never fell"),
        (np.linspace(1.1, 1.5, 100), "never fell"),
        (np.linspace(1.1, 3, 100), "diverged at once"),
        (np.array([1.1, 2.2]), "diverged at once"),
        (np.array([]), "diverged at once"),
    ],
)
def test_a_sweep_without_descent_says_so(losses, note):
    found = suggest(LRS[: len(losses)], losses)
    assert note in found["note"]
    assert found["valley"] is found["steep"] is found["minimum"] is None
