"""The loss: label smoothing, class weights and mixup mean what their sources say."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from pawprint.training.losses import CrossEntropy, class_weights, mixup
from tests.support.recipe import recipe

TARGETS = torch.tensor([0] * 8 + [1] * 3 + [2])


def random_logits() -> torch.Tensor:
    return torch.randn(12, 3, generator=torch.Generator().manual_seed(0))


def test_mixup_blends_pictures_and_targets_by_the_same_share():
    inputs, targets = torch.eye(6), torch.arange(6)
    mixed, pairs = mixup(inputs, targets, 0.4, torch.Generator().manual_seed(3))
    (share, first), (rest, second) = pairs
    assert share + rest == pytest.approx(1)
    assert torch.equal(first, targets)
    assert sorted(second.tolist()) == list(range(6))
    assert torch.allclose(mixed, share * inputs[first] + rest * inputs[second])


def test_mixup_shares_are_beta_distributed():
    shares = [
        mixup(torch.eye(2), torch.arange(2), 0.4, torch.Generator().manual_seed(i))[1][0][0]
        for i in range(800)
    ]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.02)


def test_mixup_of_zero_draws_nothing():
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    inputs, targets = torch.eye(6), torch.arange(6)
    mixed, pairs = mixup(inputs, targets, 0, generator)
    assert mixed is inputs
    assert pairs == [(1.0, targets)]
    assert torch.equal(generator.get_state(), before)


def test_balanced_weights_are_scikit_learns():
    weights = class_weights(TARGETS, 3, recipe(class_weights="balanced"))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=TARGETS.numpy())
    assert weights.tolist() == pytest.approx(expected.tolist())
    assert class_weights(TARGETS, 3, recipe(class_weights="none")) is None


def test_class_weights_make_classes_count_the_same():
    weights = class_weights(TARGETS, 3, recipe(class_weights="balanced"))
    logits = random_logits()
    each = F.cross_entropy(logits, TARGETS, reduction="none")
    means = torch.stack([each[k == TARGETS].mean() for k in range(3)])
    assert CrossEntropy(0.0, weights)(logits, TARGETS).item() == pytest.approx(means.mean().item())


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.5, 4.0])])
def test_the_losses_of_the_parts_add_up_to_that_of_the_batch(weights):
    loss, logits = CrossEntropy(0.1, weights), random_logits()
    whole = loss(logits, TARGETS)
    expected = F.cross_entropy(logits, TARGETS, weights, label_smoothing=0.1)
    parts = [loss(logits[part], TARGETS[part], batch=TARGETS) for part in torch.arange(12).split(5)]
    assert whole.item() == pytest.approx(expected.item())
    assert torch.stack(parts).sum().item() == pytest.approx(whole.item())
