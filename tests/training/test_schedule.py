"""Learning rate and momentum over a training, as fast.ai and SGDR have them."""

import pytest

from pawprint.training.schedule import one_cycle, schedule_of, warm_restarts
from tests.support.recipe import recipe


def test_one_cycle_rises_and_falls_as_fastai_does():
    assert one_cycle(0) == pytest.approx((0.2, 0.95))
    assert one_cycle(0.3) == pytest.approx((1, 0.85))
    assert one_cycle(1) == pytest.approx((1e-5, 0.95))


def test_warm_restarts_fall_to_nothing_and_jump_back():
    assert warm_restarts(0, [1, 3]) == (1, 0.9)
    assert warm_restarts(1 / 6, [1, 3])[0] == pytest.approx(0.5)
    assert warm_restarts(0.333, [1, 3])[0] < 0.001
    assert warm_restarts(1 / 3, [1, 3])[0] == 1
    assert warm_restarts(2 / 3, [1, 3])[0] == pytest.approx(0.5)
    assert warm_restarts(1, [1, 3])[0] == pytest.approx(0)


def test_a_restart_falls_on_its_first_step_for_any_number_of_steps():
    for ends in ([1, 3, 7], [2, 4, 6], [3, 12, 39], [1, 2, 3, 4, 5, 6, 7]):
        for per_epoch in range(1, 60):
            firsts = [0, *(end * per_epoch for end in ends[:-1])]
            assert all(
                warm_restarts(step / (per_epoch * ends[-1]), ends)[0] == 1 for step in firsts
            ), (ends, per_epoch)


def test_fit_one_cycle_has_fastais_cycle():
    schedule = schedule_of(recipe(method="fit_one_cycle"))
    assert schedule(0) == pytest.approx((1 / 25, 0.95))
    assert schedule(0.25) == pytest.approx((1, 0.85))
    assert schedule(1) == pytest.approx((1e-5, 0.95))
    assert schedule(0.1) != pytest.approx(one_cycle(0.1))
