"""What the curves of a finished training say."""

from pawprint.training.curves import warning
from tests.support.learner import trained


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


def test_a_loss_of_guessing_names_the_learning_rate():
    assert "raise train.lr" in warning(curve([1.1, 1.08], [1.1, 1.1]), 3)
    assert "lower train.lr" in warning(curve([1.1, 1.5], [1.1, 1.1]), 3)
    assert warning(curve([1.1, 1.05], [1.1, 0.7]), 3) == ""  # mixup keeps the training loss high
    assert warning(curve([1.1, 0.9], [1.1, 0.9]), 3) == ""
    assert warning([], 3) == ""


def test_a_learning_rate_too_low_is_said_of_a_real_training():
    rows, _ = trained(lrs=(1e-9, 1e-9))
    assert "raise train.lr" in warning(rows, 3)
