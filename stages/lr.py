"""Settle the learning rates: those of `train.lr`, or what lr_find suggests if it is `auto`.

Reads metrics/lr_find.json. Writes metrics/lr.json: the highest learning rates of the body's first
layers and of the head. train and retrain read these alone, so a new suggestion reruns them only if
`train.lr` is `auto`.
"""

from pawprint.params import StageError, load_params, run_stage
from pawprint.tables import read_json, write_json
from pawprint.training.lr import LrParams, first_and_head


def main() -> None:
    params = load_params("train", LrParams)
    suggested = read_json("metrics/lr_find.json")["valley"]
    lr = suggested if params.lr == "auto" else params.lr
    if lr is None:
        raise StageError(
            "train.lr is 'auto', but lr_find found no valley; set a number, and see "
            "metrics/lr_find.csv"
        )
    first_layers, head = first_and_head(lr)
    write_json("metrics/lr.json", {"first_layers": first_layers, "head": head}, digits=None)


if __name__ == "__main__":
    run_stage(main)
