"""What the curves of a finished training say: its best epoch, and what is wrong, if anything is."""

import math


def best_of(epochs: list[dict]) -> dict:
    """Return the epoch with the lowest error on valid; of equal ones, that of the lowest loss."""
    return min(epochs, key=lambda row: (row["error_rate"], row["valid_loss"]))


def warning(epochs: list[dict], classes: int) -> str:
    """Return what is wrong with the curves of a finished training, in one line, or "".

    The rules:
    - The last training loss is more than a tenth above that of guessing, ln(classes): the lr is
      too high.
    - Neither loss is more than a tenth below it: the lr is too low, or the epochs too few.
    - In the last phase, valid loss was lowest three or more epochs before the end, is more than 5 %
      above that now, and training loss fell meanwhile: it overfits.
    """
    if not epochs:
        return ""
    last, guessing = epochs[-1], math.log(max(classes, 2))
    ends = f"training loss ends at {last['train_loss']:.3g}"
    if last["train_loss"] > 1.1 * guessing:
        return f"{ends}, above guessing ({guessing:.3g}): lower train.lr"
    if min(last["train_loss"], last["valid_loss"]) > 0.9 * guessing:
        return f"{ends}, near guessing ({guessing:.3g}): raise train.lr or epochs"
    curve = [row for row in epochs if row["phase"] == last["phase"]]
    low = min(curve, key=lambda row: row["valid_loss"])
    rose = last["valid_loss"] > 1.05 * low["valid_loss"] and last["train_loss"] < low["train_loss"]
    if rose and last["epoch"] - low["epoch"] >= 3:
        return (
            f"it overfits: valid loss rose from {low['valid_loss']:.3g} in epoch {low['epoch']} to "
            f"{last['valid_loss']:.3g} while training loss fell; fewer epochs, more augment or "
            "weight_decay may help"
        )
    return ""
