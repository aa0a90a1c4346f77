"""The baselines stand in one table, and a linear head on frozen features is one of them."""

import json

import numpy as np

from pawprint.judging.baselines import distances
from tests.support.project import Project


def test_every_baseline_is_an_error_of_the_valid_split(small: Project):
    for name in ("gather", "verify", "split", "features", "baseline"):
        small.stage(name)
    once = (small.path / "metrics/baseline.json").read_bytes()
    errors = json.loads(once)["valid"]
    assert list(errors) == ["majority", "pixel_l1", "pixel_l2", "linear"]
    assert errors["majority"]["error_rate"] == 0.5
    assert errors["linear"]["error_rate"] < 0.5, "even random features tell colours apart"
    small.stage("baseline")
    assert (small.path / "metrics/baseline.json").read_bytes() == once


def test_baseline_tells_colours_apart_and_counts_the_majority(small: Project):
    for name in ("gather", "verify", "split", "features", "baseline"):
        small.stage(name)
    figures = json.loads((small.path / "metrics/baseline.json").read_text())["valid"]
    errors = {name: error["error_rate"] for name, error in figures.items()}
    assert errors == {"majority": 0.5, "pixel_l1": 0.0, "pixel_l2": 0.0, "linear": 0.0}
    assert figures["majority"]["low"] < 0.5 < figures["majority"]["high"]


def test_pixel_distances():
    l1, l2 = distances(np.zeros((2, 2, 3)), np.stack([np.full((2, 2, 3), 0.5), np.ones((2, 2, 3))]))
    assert l1.tolist() == [0.5, 1.0]
    assert l2.tolist() == [0.5, 1.0]
