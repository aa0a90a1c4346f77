"""The stages lr_find and lr: from a sweep, or from params.yaml, to the learning rates of train."""

import pytest

from pawprint.tables import read_json
from tests.support.project import Project


@pytest.fixture
def small(small_seen: Project) -> Project:
    """A project after the stages that lr_find needs."""
    return small_seen


def sweep(small: Project) -> tuple[dict[str, object], str]:
    """Run the stage lr_find; return its suggestions, and what it said."""
    said = small.stage("lr_find").stderr
    return read_json(small.path / "metrics/lr_find.json"), said


def test_lr_find_suggests_a_learning_rate_that_auto_takes(small: Project):
    small.edit(**{"train.lr": "auto", "lr_find.start_lr": 1e-4})
    found, _ = sweep(small)
    assert found["valley"]
    assert found["note"] == ""
    small.stage("lr")
    lrs = read_json(small.path / "metrics/lr.json")
    assert lrs == {"first_layers": found["valley"] / 100, "head": found["valley"]}


def test_a_sweep_without_descent_is_said_to_be_one_and_auto_is_refused(small: Project):
    small.edit(**{"lr_find.start_lr": 1e-9, "lr_find.end_lr": 1e-8})
    small.edit(**{"train.class_weights": "balanced"})
    found, said = sweep(small)
    assert found["valley"] is None
    assert "lr_find: no suggestion: the loss never fell" in said
    small.edit(**{"train.lr": "auto"})
    assert "train.lr is 'auto', but lr_find found no valley" in small.failing_stage("lr")


def test_a_number_or_a_pair_is_taken_whatever_the_sweep_suggests(small: Project):
    (small.path / "metrics").mkdir(exist_ok=True)
    (small.path / "metrics/lr_find.json").write_text('{"valley": null}')
    for given, expected in ((0.01, (0.0001, 0.01)), ([1e-5, 0.002], (1e-5, 0.002))):
        small.edit(**{"train.lr": given})
        small.stage("lr")
        lrs = read_json(small.path / "metrics/lr.json")
        assert (lrs["first_layers"], lrs["head"]) == expected
