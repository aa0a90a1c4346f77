"""Which layers learn how fast, what decays, and the average of the weights."""

import itertools

import pytest
import torch

from pawprint.training.model import create_model
from pawprint.training.optimizer import layer_groups, make_optimizer, moving_average
from tests.support.recipe import recipe


def test_learning_rates_grow_evenly_from_the_first_layers_to_the_head():
    model, _ = create_model(recipe(), ["a", "b"])
    groups = layer_groups(model, (1e-5, 1e-3))
    lrs = [lr for _, lr in groups]
    assert (lrs[0], lrs[-1]) == pytest.approx((1e-5, 1e-3))
    ratios = [later / earlier for earlier, later in itertools.pairwise(lrs)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    assert ratios[0] > 1
    assert sum(len(named) for named, _ in groups) == len(list(model.parameters()))
    assert "classifier.weight" in dict(groups[-1][0])


def test_biases_and_batch_norm_do_not_decay():
    model, _ = create_model(recipe(), ["a", "b"])
    optimizer = make_optimizer(layer_groups(model, (1e-5, 1e-3)), 0.01)
    for group in optimizer.param_groups:
        flat = [parameter.ndim == 1 for parameter in group["params"]]
        assert flat == [group["weight_decay"] == 0] * len(flat)
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    assert count == len(list(model.parameters()))
    assert optimizer.param_groups[-1]["max_lr"] == pytest.approx(1e-3)


def test_the_average_follows_at_first_and_then_lags():
    old, new = torch.zeros(1), torch.ones(1)
    assert moving_average(0.99, old, new, 0).item() == pytest.approx(0.9)
    assert moving_average(0.99, old, new, 10_000).item() == pytest.approx(0.01)
