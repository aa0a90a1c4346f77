"""The loop: what both phases learn, that a killed training goes on, and that divergence is said."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from pawprint.params import StageError
from pawprint.training import learner as module
from pawprint.training.blend import BLENDS, blend
from pawprint.training.checkpoint import Checkpoint
from pawprint.training.fold import keep_statistics
from pawprint.training.inference import compute_features, run_in_batches
from pawprint.training.learner import (
    Learner,
    Phase,
    batch_sizes,
    fine_tune,
    forward_backward,
    frozen_phase,
    full_phase,
    judge,
    measure,
)
from pawprint.training.optimizer import layer_groups
from pawprint.training.parted import Parted
from tests.support.learner import CPU, make_learner, same, trained
from tests.support.recipe import STILL


def highest(phase: Phase) -> list[float]:
    """Return the highest learning rate of each group of layers."""
    return [lr for _, lr in phase.groups]


def test_a_pair_of_learning_rates_goes_from_the_first_layers_to_the_head():
    lrs = highest(full_phase(make_learner(lrs=(1e-5, 1e-3), method="fit_one_cycle")))
    assert (lrs[0], lrs[-1]) == pytest.approx((1e-5, 1e-3))


def test_fine_tune_halves_the_learning_rates_for_the_whole_model_as_fastai_does():
    learner = make_learner(lrs=(1e-5, 1e-3), method="fine_tune")
    assert highest(frozen_phase(learner)) == [1e-3]
    lrs = highest(full_phase(learner))
    assert (lrs[0], lrs[-1]) == pytest.approx((5e-6, 5e-4))


def test_sgdr_trains_in_cycles():
    rows, _ = trained(
        method="sgdr", epochs=3, cycle_len=1, cycle_mult=2, lrs=(1e-3, 1e-3), freeze_epochs=0
    )
    done = (2 / 3, 2 / 6, 5 / 6)  # of its cycle at the last of an epoch's three steps
    factors = [(1 + math.cos(math.pi * part)) / 2 for part in done]
    assert [row["lr"] for row in rows] == pytest.approx([1e-3 * factor for factor in factors])


def test_each_method_trains_another_model():
    ends = [trained(method=method)[1] for method in ("fine_tune", "fit_one_cycle", "sgdr")]
    assert not same(ends[0], ends[1])
    assert not same(ends[0], ends[2])
    assert not same(ends[1], ends[2])


def test_batches_are_nearly_equal():
    assert batch_sizes(65, 32) == [22, 22, 21]
    assert batch_sizes(64, 32) == [32, 32]
    assert batch_sizes(3, 32) == [3]


class Killed(BaseException):
    """In place of the signal."""


class Fragile(Checkpoint):
    """A checkpoint whose process dies after a number of saves."""

    def __init__(self, path: Path, fingerprint: str, saves: int) -> None:
        super().__init__(path, fingerprint)
        self.saves = saves

    def save(self, **state: object) -> None:
        super().save(**state)
        self.saves -= 1
        if not self.saves:
            raise Killed


@pytest.mark.parametrize("saves", [1, 2, 4])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mixup": 0.4, "ema": 0.9, "precision": "bf16", "method": "sgdr"},
        {"precision": "fp16"},
        {"blend": "auto", "freeze_layers": 0.5},
        {"blend": "auto", "ema": 0.9},
    ],
)
def test_a_training_goes_on_from_any_epoch_to_the_same_bits(tmp_path, monkeypatch, saves, changes):
    path = tmp_path / "models/.x.checkpoint"
    whole = make_learner(**changes)
    rows, state = fine_tune(whole), whole.model.state_dict()
    with pytest.raises(Killed):
        fine_tune(make_learner(checkpoint=Fragile(path, "f", saves=saves), **changes))
    again = make_learner(checkpoint=Checkpoint(path, "f"), **changes)
    steps = []

    def counted(*arguments: object) -> float:
        steps.append(1)
        return forward_backward(*arguments)

    monkeypatch.setattr(module, "forward_backward", counted)
    assert fine_tune(again) == rows
    assert same(state, again.model.state_dict())
    assert again.final == whole.final
    # the epochs before are not trained again: three steps an epoch
    assert len(steps) == 3 * (4 - saves)


def test_dropout_goes_on_to_the_same_bits_too(tmp_path):
    def with_dropout(checkpoint: Checkpoint | None = None) -> Learner:
        learner = make_learner(checkpoint)
        learner.model.drop_rate = 0.5
        return learner

    whole, plain, path = with_dropout(), make_learner(), tmp_path / ".x.checkpoint"
    assert fine_tune(whole) != fine_tune(plain)
    with pytest.raises(Killed):
        fine_tune(with_dropout(Fragile(path, "f", saves=2)))
    torch.rand(5)
    again = with_dropout(Checkpoint(path, "f"))
    assert fine_tune(again) == whole.rows
    assert same(whole.model.state_dict(), again.model.state_dict())


def test_a_checkpoint_of_the_frozen_epochs_alone_gives_the_head_back(tmp_path):
    path = tmp_path / ".x.checkpoint"
    rows, state = trained(epochs=0)
    fine_tune(make_learner(checkpoint=Checkpoint(path, "f"), epochs=0))
    again = make_learner(checkpoint=Checkpoint(path, "f"), epochs=0)
    assert fine_tune(again) == rows
    assert same(state, again.model.state_dict())


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_lower_precision_is_used_and_comes_near(name, dtype):
    rows, state = trained(augment=STILL)
    learner, seen = make_learner(precision=name, augment=STILL), set()
    learner.model.conv_stem.register_forward_hook(
        lambda _, __, output: seen.add((len(output) > 1, output.dtype))
    )
    low = fine_tune(learner)
    # a single picture is only for trying the folded model
    assert {kind for is_batch, kind in seen if is_batch} == {dtype}
    assert {tensor.dtype for tensor in learner.model.parameters()} == {torch.float32}
    assert low[-1]["train_loss"] == pytest.approx(rows[-1]["train_loss"], abs=0.03)
    assert not same(state, learner.model.state_dict())


def test_mixup_is_in_the_loss_of_both_phases():
    rows, _ = trained()
    mixed, _ = trained(mixup=5.0)
    assert all(a["train_loss"] != b["train_loss"] for a, b in zip(rows, mixed, strict=True))


@pytest.mark.parametrize(
    "changes", [{}, {"mixup": 0.4}, {"class_weights": "balanced"}, {"freeze_layers": 0.5}]
)
def test_a_batch_computed_in_parts_has_the_gradients_of_the_whole(monkeypatch, changes):
    def gradients(at_a_time: int) -> tuple[float, torch.Tensor, list[int]]:
        if "freeze_layers" in changes:
            monkeypatch.setattr(module, "TOGETHER", at_a_time)
        else:
            monkeypatch.setitem(module.AT_A_TIME, "cpu", at_a_time)
        learner = make_learner(batch_size=20, **changes)
        phase, calls = full_phase(learner), []
        keep_statistics(phase.module.train())
        phase.module.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        loss = forward_backward(learner, phase, phase.module, torch.arange(20), scaler)
        learns = [each for each in learner.model.parameters() if each.requires_grad]
        return loss, torch.cat([each.grad.flatten() for each in learns]), calls

    loss, expected, calls = gradients(20)
    in_parts, found, parts = gradients(8)
    assert (calls, parts) == ([20], [7, 7, 6])
    assert in_parts == pytest.approx(loss)
    assert expected.abs().max() > 1e-3
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_the_averaged_weights_are_the_model_that_was_judged():
    plain, state = trained()
    learner = make_learner(ema=0.99)
    rows = fine_tune(learner)
    # training itself is the same
    assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in plain]
    assert not same(state, learner.model.state_dict())
    model, data = learner.model, learner.data
    with torch.no_grad():
        logits = run_in_batches(nn.Module.__call__, model, data.valid, learner.config, CPU)
    loss = learner.loss(logits, data.valid_targets).item()
    assert loss == pytest.approx(rows[-1]["valid_loss"], abs=1e-6)


def test_the_blend_lies_on_the_way_from_the_frozen_epochs_to_the_last_one_and_is_judged():
    start, (rows, end) = trained(epochs=0)[1], trained()
    learner = make_learner(blend=0.25)
    assert fine_tune(learner) == rows, "the rows are of the epochs, whatever is blended after them"
    for name, value in learner.model.state_dict().items():
        expected = torch.lerp(start[name].double(), end[name].double(), 0.25)
        assert torch.allclose(value.double(), expected, atol=1e-6)
    figures = measure(learner, judge(learner, learner.model))
    assert learner.final == {"blend": 0.25, **figures}
    assert figures["valid_loss"] != rows[-1]["valid_loss"]


@pytest.mark.parametrize(
    "changes", [{}, {"freeze_epochs": 0}, {"ema": 0.9, "freeze_layers": 0.5}, {"lrs": (2e-3, 2e-2)}]
)
def test_auto_takes_the_blend_that_errs_least_on_valid(changes):
    freeze = changes.get("freeze_epochs", 2)
    start = trained(**{**changes, "epochs": 0})[1]
    end = trained(**{**changes, "blend": 1})[1]
    learner = make_learner(**{**changes, "blend": "auto"})
    fine_tune(learner)
    errors, final = [], {name: value.clone() for name, value in learner.model.state_dict().items()}
    for share in BLENDS:
        blend(learner.model, start, end, share)
        figures = measure(learner, judge(learner, learner.model))
        errors.append(figures["error_rate"])
        if share == learner.final["blend"]:
            assert figures["error_rate"] == learner.final["error_rate"]
            # without frozen epochs the start is measured as the others are, not on features
            assert figures["valid_loss"] == pytest.approx(learner.final["valid_loss"], abs=1e-5)
            assert same(final, learner.model.state_dict())
    assert learner.final["error_rate"] == min(errors)
    assert freeze or learner.final["blend"] != 0


def test_without_epochs_of_the_whole_model_there_is_nothing_to_blend():
    learner = make_learner(epochs=0, blend="auto")
    fine_tune(learner)
    assert learner.final == {}
    assert same(learner.model.state_dict(), trained(epochs=0)[1])


@pytest.mark.parametrize("share", [0.5, 1])
def test_frozen_layers_stay_as_they_are_and_the_others_learn(share):
    start = trained(epochs=0)[1]
    learner = make_learner(freeze_layers=share)
    groups = layer_groups(learner.model, (1e-5, 1e-3))
    fine_tune(learner)
    state, count = learner.model.state_dict(), int(share * (len(groups) - 1))
    for i, (named, _) in enumerate(groups):
        for name, _ in named:
            assert torch.equal(start[name], state[name]) == (i < count)


def test_nothing_is_computed_backwards_through_frozen_layers():
    learner, seen = make_learner(freeze_layers=0.5), []
    phase = full_phase(learner)
    phase.module.given.register_forward_hook(lambda *args: seen.append(args[2].requires_grad))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    forward_backward(learner, phase, phase.module, torch.arange(8), scaler)
    assert seen == [False]
    assert learner.model.conv_stem.weight.grad is None


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"blend": "auto", "epochs": 2}])
@pytest.mark.parametrize("kept", [True, False])
def test_a_network_in_two_parts_learns_the_same(monkeypatch, changes, kept):
    parted = make_learner(freeze_layers=0.5, **changes)
    monkeypatch.setattr(module, "KEPT", module.KEPT if kept else 0)
    rows = fine_tune(parted)
    assert isinstance(parted.network, Parted)
    assert bool(parted.begun) == (kept and "ema" not in changes)
    monkeypatch.setattr(module, "in_parts", lambda model, size, folded, pairs: folded)
    whole = make_learner(freeze_layers=0.5, **changes)
    assert fine_tune(whole) == rows
    assert whole.final == parted.final
    assert same(whole.model.state_dict(), parted.model.state_dict())


def test_a_loss_far_above_guessing_has_diverged():
    with pytest.raises(
        StageError, match=r"the loss is .* diverged .*rate of up to 10 .*set a lower train\.lr"
    ):
        trained(lrs=(10, 10), epochs=20, freeze_epochs=0, method="fit_one_cycle")


def test_rows_hold_nothing_that_changes_between_runs():
    rows, _ = trained()
    assert list(rows[0]) == [
        "epoch",
        "step",
        "phase",
        "lr",
        "train_loss",
        "valid_loss",
        "error_rate",
    ]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in rows] == [3, 6, 9, 12, 15]


def test_too_many_processes_for_a_batch_are_an_error(monkeypatch):
    monkeypatch.setattr(module, "processes", partial(tuple, (0, 8)))
    with pytest.raises(StageError, match="8 processes are more than the pictures of a batch"):
        make_learner()


def spoil(learner: Learner, name: str) -> Learner:
    """Make the weights of one layer NaN."""
    with torch.no_grad():
        learner.model.get_parameter(name).fill_(math.nan)
    return learner


@pytest.mark.parametrize("phase", ["frozen", "full"])
def test_a_loss_that_is_nan_ends_in_a_line_that_names_the_learning_rate(phase):
    learner = make_learner(**({"freeze_epochs": 0} if phase == "full" else {}))
    spoil(learner, "classifier.weight")
    with pytest.raises(StageError, match=rf"loss is nan in epoch 1: .* {phase} .*train\.lr"):
        fine_tune(learner)


def test_a_valid_loss_that_is_nan_ends_in_a_line_that_names_the_learning_rate(monkeypatch):
    """JSON has no NaN: the metrics could not be written."""
    learner = make_learner(freeze_epochs=0)
    nan = torch.full((9, 3), math.nan)
    monkeypatch.setattr(module, "run_in_batches", lambda *_, **__: nan)
    with pytest.raises(StageError, match=r"the loss is nan in epoch 1: .*train\.lr"):
        fine_tune(learner)


def test_features_that_are_nan_end_in_a_line_that_names_the_weights():
    learner = spoil(make_learner(), "conv_stem.weight")
    with pytest.raises(StageError, match=r"the model's features are not numbers .*train\.weights"):
        compute_features(learner.model, learner.data.valid, learner.config, CPU)
