"""The temperature makes the model as sure as it is right, with few classes or many."""

import pytest
import torch

from pawprint.exporting.temperature import fit_temperature


@pytest.mark.parametrize("classes", [2, 10, 120, 1000])
@pytest.mark.parametrize("times", [0.3, 1, 3])
def test_the_temperature_of_logits_that_are_off_by_a_factor_is_that_factor(
    classes: int, times: float
):
    draw = torch.Generator().manual_seed(7)
    logits = torch.randn(2 * max(classes, 120), classes, generator=draw) * 3
    targets = torch.multinomial(logits.softmax(dim=1), 1, generator=draw)[:, 0]
    assert fit_temperature(times * logits, targets) == pytest.approx(times, rel=0.2)


def test_a_model_that_makes_no_mistake_is_not_sure_without_end():
    targets = torch.arange(30) % 3
    logits = 8.0 * torch.eye(3)[targets]
    confidence = (logits / fit_temperature(logits, targets)).softmax(dim=1).amax(dim=1)
    assert confidence.mean().item() == pytest.approx(31 / 32, abs=1e-3)
