"""The baselines stand in one table, and a linear head on frozen features is one of them."""

import json

import numpy as np

from pawprint.judging.baselines import distances
from tests.support.project import Project


def test_every_baseline_is_an_error_of_the_valid_split_and_tells_colours_apart(
    small_seen: Project,
):
    """All but the majority, which is half of the pictures; the linear head on random features."""
    small_seen.stage("baseline")
    once = (small_seen.path / "metrics/baseline.json").read_bytes()
    figures = json.loads(once)["valid"]
    assert list(figures) == ["majority", "pixel_l1", "pixel_l2", "linear"]
    errors = {name: error["error_rate"] for name, error in figures.items()}
    assert errors == {"majority": 0.5, "pixel_l1": 0.0, "pixel_l2": 0.0, "linear": 0.0}
    small_seen.stage("baseline")
    assert (small_seen.path / "metrics/baseline.json").read_bytes() == once
    assert figures["majority"]["low"] < 0.5 < figures["majority"]["high"]


def test_pixel_distances():
    l1, l2 = distances(np.zeros((2, 2, 3)), np.stack([np.full((2, 2, 3), 0.5), np.ones((2, 2, 3))]))
    assert l1.tolist() == [0.5, 1.0]
    assert l2.tolist() == [0.5, 1.0]
