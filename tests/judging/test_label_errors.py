"""Labels are judged however few pictures there are; nothing ends in a traceback."""

import numpy as np
import pytest

from pawprint.judging.label_errors import odd_ones_out, out_of_fold


def features(target: np.ndarray) -> np.ndarray:
    """Features that tell classes apart, with some noise."""
    noise = np.random.default_rng(0).normal(0, 0.1, (len(target), 8))
    return noise + np.eye(8)[target % 8]


@pytest.mark.parametrize(
    ("target", "groups"),
    [
        ([0, 0, 0, 0, 1, 1, 1, 1], range(8)),
        ([0, 0, 0, 1], range(4)),
        ([0, 1], range(2)),
        ([0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 3, 4, 4, 4, 4]),
        ([0, 0, 1, 1], [0, 0, 1, 1]),
        ([0, 0, 1, 1], [0, 0, 0, 0]),
        ([0] * 9 + [1], range(10)),
    ],
    ids=[
        "4 a class",
        "one picture",
        "one each",
        "one group",
        "a group each",
        "one for all",
        "rare",
    ],
)
@pytest.mark.parametrize("folds", [2, 5, 20])
@pytest.mark.parametrize("seed", [0, -1, 2**40])
def test_few_pictures_large_groups_and_many_folds_are_judged(target, groups, folds, seed):
    target, groups = np.array(target), np.array(groups)
    judged = out_of_fold(features(target), target, groups, folds, seed)
    assert judged.shape == (len(target), 2)
    assert judged.sum(axis=1) == pytest.approx(np.ones(len(target)))


def test_a_picture_whose_class_is_in_no_other_fold_keeps_its_label():
    target = np.array([0] * 8 + [1, 1])
    groups = np.array([*range(8), 8, 8])
    judged = out_of_fold(features(target), target, groups, 5, 42)
    assert judged[8:].tolist() == [[0, 1], [0, 1]]


def test_a_single_group_has_no_odd_one():
    distance, odd = odd_ones_out(np.ones((3, 4)), np.zeros(3), 5)
    assert distance.tolist() == [0, 0, 0]
    assert not odd.any()
