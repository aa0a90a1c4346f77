"""The baselines stand in one table, and a linear head on frozen features is one of them."""

import json

from tests.support.project import Project


def test_every_baseline_is_an_error_of_the_valid_split(small: Project):
    for name in ("gather", "verify", "split", "baseline"):
        small.stage(name)
    once = (small.path / "metrics/baseline.json").read_bytes()
    errors = json.loads(once)["valid"]
    assert list(errors) == ["majority_error", "pixel_l1_error", "pixel_l2_error", "linear_error"]
    assert errors["majority_error"] == 0.5
    assert errors["linear_error"] < 0.5, "even random features tell colours apart"
    small.stage("baseline")
    assert (small.path / "metrics/baseline.json").read_bytes() == once
