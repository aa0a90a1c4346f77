"""How well a score tells strangers from known pictures."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pawprint.judging.none_of_these import auroc


@pytest.mark.parametrize("seed", range(5))
def test_the_area_under_the_roc_curve_is_that_of_scikit_learn(seed: int):
    random = np.random.default_rng(seed)
    low, high = random.normal(size=40).round(1), random.normal(0.7, 1, size=25).round(1)  # ties
    expected = roc_auc_score([0] * 40 + [1] * 25, np.concatenate([low, high]))
    assert auroc(low, high) == pytest.approx(expected, abs=1e-12)


def test_scores_that_are_all_the_same_tell_nothing():
    assert auroc(np.zeros(3), np.zeros(4)) == 0.5
    assert (auroc(np.zeros(3), np.ones(4)), auroc(np.ones(3), np.zeros(4))) == (1, 0)
