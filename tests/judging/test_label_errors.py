"""Wrong labels: judged out of fold."""

import numpy as np

from pawprint.judging.label_errors import out_of_fold


def test_the_highest_seed_draws_folds_too():
    """Several drawings count up from the seed, and scikit-learn takes 32 bits."""
    seen = np.random.default_rng(0).normal(size=(40, 5))
    target, groups = np.arange(40) % 2, np.arange(40)
    found = out_of_fold(seen, target, groups, folds=2, seed=2**32 - 1)
    assert np.allclose(found.sum(axis=1), 1)
