"""The training loop's knobs: rates, schedules, checkpoints, precision, mixup, class weights, averaging, warnings."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from pawprint.params import StageError, check
from pawprint.training import learner as module
from pawprint.training.checkpoint import Checkpoint, fingerprint
from pawprint.training.inference import in_batches
from pawprint.training.learner import Data, Learner, class_weights, mixup, moving_average
from pawprint.training.model import create_model
from pawprint.training.recipe import TrainParams
from pawprint.training.schedule import one_cycle, warm_restarts
from stages.lr_find import suggest
from stages.train import warning
from tests.support.project import ROOT
from tests.support.recipe import RECIPE, STILL, recipe

CPU = torch.device("cpu")
QUICK = {"size": 32, "train_size": 32, "batch_size": 8, "freeze_epochs": 2, "epochs": 3}


@pytest.fixture(autouse=True)
def one_thread():
    """These models are too small to share, and two threads on busy cores wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pictures(n: int, side: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy pictures of three colours, (n, side, side, 3), and their classes (n,)."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 3
    colours = torch.tensor([[180, 60, 60], [60, 160, 60], [60, 60, 180]])[targets]
    noise = torch.randint(-50, 50, (n, side, side, 3), generator=generator)
    return (colours[:, None, None] + noise).clamp(0, 255).to(torch.uint8), targets


def make_learner(
    checkpoint: Checkpoint | None = None,
    rates: tuple[float, float] = (2e-5, 2e-3),
    **changes: object,
) -> Learner:
    params = recipe(**{**QUICK, **changes})
    torch.manual_seed(params.seed)
    model, config = create_model(params, ["a", "b", "c"])
    train, targets = pictures(20, 36, 1)
    valid, valid_targets = pictures(9, 32, 2)
    data = Data(train, train[:, 2:-2, 2:-2].contiguous(), targets, valid, valid_targets)
    return Learner(model, config, data, params, rates, CPU, checkpoint)


def trained(**changes: object) -> tuple[list[dict], dict[str, torch.Tensor]]:
    learner = make_learner(**changes)
    return learner.train(), learner.model.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# Rates and schedules


@pytest.mark.parametrize(
    "value", [0, -1, 11, "high", True, [1e-3], [1e-2, 1e-3], [0, 1e-3], [1e-4, 1e-3, 1e-2]]
)
def test_an_impossible_rate_is_named(value):
    with pytest.raises(
        StageError, match=r"train\.lr is .*or auto, or two such numbers \[low, high\]"
    ):
        check({**RECIPE, "lr": value}, TrainParams, "train", ROOT / "params.yaml")


def test_a_pair_of_rates_goes_from_the_first_layers_to_the_head():
    assert recipe(lr=[1e-5, 1e-3]).lr == (1e-5, 1e-3)
    learner = make_learner(rates=(1e-5, 1e-3), method="fit_one_cycle")
    rates = [rate for _, rate in learner.full_phase().groups]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[-1] == pytest.approx(1e-3)
    ratios = [later / earlier for earlier, later in itertools.pairwise(rates)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_fine_tune_halves_the_rates_for_the_whole_model_as_fastai_does():
    learner = make_learner(rates=(1e-5, 1e-3), method="fine_tune")
    assert [rate for _, rate in learner.frozen_phase().groups] == [1e-3]
    rates = [rate for _, rate in learner.full_phase().groups]
    assert (rates[0], rates[-1]) == pytest.approx((5e-6, 5e-4))


def test_fit_one_cycle_has_fastais_cycle():
    schedule = make_learner(method="fit_one_cycle").full_phase().schedule
    assert schedule(0) == pytest.approx((1 / 25, 0.95))
    assert schedule(0.25) == pytest.approx((1, 0.85))
    assert schedule(1) == pytest.approx((1e-5, 0.95))
    assert schedule(0.1) != pytest.approx(one_cycle(0.1))


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


def test_sgdr_trains_in_cycles():
    rows, _ = trained(
        method="sgdr", epochs=3, cycle_len=1, cycle_mult=2, rates=(1e-3, 1e-3), freeze_epochs=0
    )
    factors = [
        (1 + math.cos(math.pi * part)) / 2 for part in (2 / 3, 2 / 6, 5 / 6)
    ]  # three steps an epoch
    assert [row["lr"] for row in rows] == pytest.approx([1e-3 * factor for factor in factors])


def test_cycles_that_do_not_fill_the_epochs_are_an_error():
    assert recipe(method="sgdr", epochs=7, cycle_len=1, cycle_mult=2)
    assert recipe(method="sgdr", epochs=0)
    assert recipe(method="fine_tune", epochs=4, cycle_len=1, cycle_mult=2)
    with pytest.raises(
        StageError,
        match=r"train\.cycle_mult is 2; it should make whole cycles .* 4; it would of 3 or 7",
    ):
        check(
            {**RECIPE, "method": "sgdr", "epochs": 4, "cycle_mult": 2},
            TrainParams,
            "train",
            ROOT / "params.yaml",
        )


def test_each_method_trains_another_model():
    ends = [trained(method=method)[1] for method in ("fine_tune", "fit_one_cycle", "sgdr")]
    assert not same(ends[0], ends[1])
    assert not same(ends[0], ends[2])
    assert not same(ends[1], ends[2])


# Checkpoints


class Killed(BaseException):
    """In place of the signal."""


class Fragile(Checkpoint):
    """A checkpoint whose process dies after a number of saves."""

    def __init__(self, *arguments, saves: int) -> None:
        super().__init__(*arguments)
        self.saves = saves

    def save(self, **state: object) -> None:
        super().save(**state)
        self.saves -= 1
        if not self.saves:
            raise Killed


@pytest.mark.parametrize("saves", [1, 2, 4])
@pytest.mark.parametrize(
    "changes",
    [{}, {"mixup": 0.4, "ema": 0.9, "precision": "bf16", "method": "sgdr"}, {"precision": "fp16"}],
)
def test_a_training_goes_on_from_any_epoch_to_the_same_bits(tmp_path, saves, changes):
    path = tmp_path / "models/.x.checkpoint"
    rows, state = trained(**changes)
    with pytest.raises(Killed):
        make_learner(checkpoint=Fragile(path, "f", saves=saves), **changes).train()
    again = make_learner(checkpoint=Checkpoint(path, "f"), **changes)
    steps = []
    again.backward = lambda *arguments: steps.append(1) or Learner.backward(again, *arguments)
    assert again.train() == rows
    assert same(state, again.model.state_dict())
    assert len(steps) == 3 * (
        4 - saves
    )  # the epochs before are not trained again: three steps an epoch


def test_dropout_goes_on_to_the_same_bits_too(tmp_path):
    def with_dropout(checkpoint: Checkpoint | None = None) -> Learner:
        learner = make_learner(checkpoint)
        learner.model.drop_rate = 0.5
        return learner

    whole, plain, path = with_dropout(), make_learner(), tmp_path / ".x.checkpoint"
    assert whole.train() != plain.train()
    with pytest.raises(Killed):
        with_dropout(Fragile(path, "f", saves=2)).train()
    torch.rand(5)
    again = with_dropout(Checkpoint(path, "f"))
    assert again.train() == whole.rows
    assert same(whole.model.state_dict(), again.model.state_dict())


def test_a_checkpoint_of_the_frozen_epochs_alone_gives_the_head_back(tmp_path):
    path = tmp_path / ".x.checkpoint"
    rows, state = trained(epochs=0)
    make_learner(checkpoint=Checkpoint(path, "f"), epochs=0).train()
    again = make_learner(checkpoint=Checkpoint(path, "f"), epochs=0)
    assert again.train() == rows
    assert same(state, again.model.state_dict())


def test_a_checkpoint_of_another_training_or_a_broken_one_is_left_alone(tmp_path):
    path = tmp_path / ".x.checkpoint"
    Checkpoint(path, "one").save(rows=[], phase="full")
    assert Checkpoint(path, "one").load() == {"rows": [], "phase": "full", "fingerprint": "one"}
    assert Checkpoint(path, "other").load() is None
    path.write_bytes(path.read_bytes()[:100])
    assert Checkpoint(path, "one").load() is None
    path.write_bytes(b"")
    assert Checkpoint(path, "one").load() is None
    Checkpoint(path, "one").remove()
    assert list(tmp_path.iterdir()) == []
    assert Checkpoint(path, "one").load() is None


class Harm:
    """What unpickles into a call."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = tmp_path / ".x.checkpoint"
    torch.save({"fingerprint": "f", "rows": Harm(str(tmp_path / "harmed"))}, path)
    assert Checkpoint(path, "f").load() is None
    assert not (tmp_path / "harmed").exists()


def test_a_fingerprint_knows_settings_pictures_and_weights(tmp_path):
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"one")
    weights = {"w": torch.zeros(3)}
    first = fingerprint("lr=1", [picture], weights)
    assert first == fingerprint("lr=1", [picture], {"w": torch.zeros(3)})
    assert first != fingerprint("lr=2", [picture], weights)
    assert first != fingerprint("lr=1", [picture], {"w": torch.ones(3)})
    picture.write_bytes(b"two")
    assert first != fingerprint("lr=1", [picture], weights)


# Precision, mixup, class weights, averaging


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_lower_precision_is_used_and_comes_near(name, dtype):
    rows, state = trained(augment=STILL)
    learner, seen = make_learner(precision=name, augment=STILL), set()
    learner.model.conv_stem.register_forward_hook(
        lambda _, __, output: seen.add((len(output) > 1, output.dtype))
    )
    low = learner.train()
    assert {kind for batch, kind in seen if batch} == {
        dtype
    }  # a single picture is only for trying the folded model
    assert {tensor.dtype for tensor in learner.model.parameters()} == {torch.float32}
    assert low[-1]["train_loss"] == pytest.approx(rows[-1]["train_loss"], abs=0.03)
    assert not same(state, learner.model.state_dict())


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


def test_mixup_is_in_the_loss_of_both_phases(monkeypatch):
    rows, _ = trained()
    mixed, _ = trained(mixup=5.0)
    assert all(a["train_loss"] != b["train_loss"] for a, b in zip(rows, mixed, strict=True))


def test_balanced_weights_are_scikit_learns():
    targets = torch.tensor([0] * 8 + [1] * 3 + [2])
    weights = class_weights(targets, 3, recipe(class_weights="balanced"))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets.numpy())
    assert weights.tolist() == pytest.approx(expected.tolist())
    assert class_weights(targets, 3, recipe(class_weights="none")) is None


def test_class_weights_make_classes_count_the_same():
    learner = make_learner(label_smoothing=0.0, class_weights="balanced")
    targets = torch.tensor([0] * 8 + [1] * 3 + [2])
    learner.weights = class_weights(targets, 3, learner.params)
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    means = torch.stack([each[targets == k].mean() for k in range(3)])
    assert learner.loss(logits, targets).item() == pytest.approx(means.mean().item())


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.4}, {"class_weights": "balanced"}])
def test_a_batch_computed_in_parts_has_the_gradients_of_the_whole(monkeypatch, changes):
    def gradients(at_a_time: int) -> tuple[float, torch.Tensor, list[int]]:
        monkeypatch.setitem(module.AT_A_TIME, "cpu", at_a_time)
        learner = make_learner(batch_size=20, **changes)
        phase, calls = learner.full_phase(), []
        module.freeze_batch_norm(phase.module.train())
        phase.module.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
        loss = learner.backward(
            phase.module, phase.inputs, torch.arange(20), torch.amp.GradScaler("cpu", enabled=False)
        )
        return (
            loss,
            torch.cat([parameter.grad.flatten() for parameter in learner.model.parameters()]),
            calls,
        )

    loss, expected, calls = gradients(20)
    in_parts, found, parts = gradients(8)
    assert (calls, parts) == ([20], [7, 7, 6])
    assert in_parts == pytest.approx(loss)
    assert expected.abs().max() > 1e-3
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_the_average_follows_at_first_and_then_lags():
    old, new = torch.zeros(1), torch.ones(1)
    assert moving_average(0.99, old, new, 0).item() == pytest.approx(0.9)
    assert moving_average(0.99, old, new, 10_000).item() == pytest.approx(0.01)


def test_the_averaged_weights_are_the_model_that_was_judged():
    plain, state = trained()
    learner = make_learner(ema=0.99)
    rows = learner.train()
    assert [row["train_loss"] for row in rows] == [
        row["train_loss"] for row in plain
    ]  # training itself is the same
    assert not same(state, learner.model.state_dict())
    with torch.no_grad():
        answers = in_batches(learner.model, learner.model, learner.data.valid, learner.config, CPU)
    assert learner.loss(answers, learner.data.valid_targets).item() == pytest.approx(
        rows[-1]["valid_loss"], abs=1e-6
    )


# What the curves say


def curve(train: list[float], valid: list[float], phase: str = "full") -> list[dict]:
    return [
        {"epoch": i + 1, "phase": phase, "train_loss": a, "valid_loss": b}
        for i, (a, b) in enumerate(zip(train, valid, strict=True))
    ]


def test_overfitting_is_told_from_a_wiggle():
    falling = [0.5, 0.4, 0.3, 0.2, 0.1]
    assert "epoch 2" in warning(curve(falling, [0.5, 0.4, 0.42, 0.45, 0.5]), 3)
    assert warning(curve(falling, [0.5, 0.4, 0.42, 0.4, 0.41]), 3) == ""  # not 5 % above
    assert warning(curve(falling, [0.5, 0.6, 0.5, 0.4, 0.5]), 3) == ""  # not for three epochs
    assert (
        warning(curve([0.5, 0.2, 0.3, 0.4, 0.5], [0.5, 0.4, 0.42, 0.45, 0.5]), 3) == ""
    )  # both rose


def test_only_the_last_phase_is_judged_for_overfitting():
    frozen = curve([0.5, 0.4, 0.3, 0.2], [0.1, 0.2, 0.3, 0.4], "frozen")
    assert warning([*frozen, *curve([0.2, 0.1], [0.3, 0.2])], 3) == ""
    assert "overfits" in warning(frozen, 3)


def test_a_loss_of_guessing_names_the_rate():
    assert "raise train.lr" in warning(curve([1.1, 1.08], [1.1, 1.1]), 3)
    assert "lower train.lr" in warning(curve([1.1, 1.5], [1.1, 1.1]), 3)
    assert warning(curve([1.1, 1.05], [1.1, 0.7]), 3) == ""  # mixup keeps the training loss high
    assert warning(curve([1.1, 0.9], [1.1, 0.9]), 3) == ""
    assert warning([], 3) == ""


def test_a_rate_too_low_is_said_of_a_real_training():
    rows, _ = trained(rates=(1e-9, 1e-9))
    assert "raise train.lr" in warning(rows, 3)


def test_a_loss_far_above_guessing_has_diverged():
    with pytest.raises(
        StageError, match=r"the loss is .* diverged .*rate of up to 10 .*set a lower train\.lr"
    ):
        trained(rates=(10, 10), epochs=20, freeze_epochs=0, method="fit_one_cycle")


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


# lr_find


LRS = np.geomspace(1e-5, 10, 100)


def test_the_suggestions_are_read_off_the_descent():
    x = np.linspace(0, 1, 100)
    losses = (
        np.where(x < 0.3, 1.0, np.where(x < 0.7, 1.0 - (x - 0.3) * 2, 0.2 + (x - 0.7) * 5))
        - x * 1e-6
    )
    found = suggest(LRS, losses)
    lowest = LRS[losses.argmin()]
    assert found["minimum"] == pytest.approx(lowest / 10)
    assert LRS[29] < found["steep"] < lowest
    assert found["valley"] < lowest
    assert found["note"] == ""


@pytest.mark.parametrize(
    ("losses", "note"),
    [
        (np.full(100, 1.1), "never fell"),
        (np.linspace(1.1, 1.5, 100), "never fell"),
        (np.linspace(1.1, 3, 100), "diverged at once"),
        (np.array([1.1, 2.2]), "diverged at once"),
        (np.array([]), "diverged at once"),
    ],
)
def test_a_sweep_without_descent_says_so(losses, note):
    found = suggest(LRS[: len(losses)], losses)
    assert note in found["note"]
    assert found["valley"] is found["steep"] is found["minimum"] is None


def test_too_many_processes_for_a_batch_are_an_error(monkeypatch):
    monkeypatch.setattr(module, "processes", partial(tuple, (0, 8)))
    with pytest.raises(StageError, match="8 processes are more than the pictures of a batch"):
        make_learner()
