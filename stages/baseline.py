"""What a model must beat: the most frequent class, pixel similarity, a linear head.

Reads data/split.csv, data/images.csv, data/images, data/features.safetensors and
models/body.safetensors. Writes metrics/baseline.json (errors on the valid split) and
models/linear.safetensors, so that evaluate can ask all of them about the test split beside the
models. How the baselines work: pawprint/judging/baselines.py.
"""

from pathlib import Path

import numpy as np

from pawprint.judging.baselines import BaselineParams, fit_linear_head, pixel_answers
from pawprint.judging.errors import BASELINES, error_of
from pawprint.params import load_params, run_stage
from pawprint.tables import read_table, write_json
from pawprint.training.features import read_features
from pawprint.training.stored import hash_body, write_linear


def main() -> None:
    params = load_params("baseline", BaselineParams)
    table = read_table("data/split.csv")
    classes = sorted(table["label"].unique())
    train, valid = (table[table["split"] == split] for split in ("train", "valid"))
    paths = valid["path"].tolist()

    # the linear head
    seen = read_features(train["path"].tolist(), "features", hash_body())
    weight, bias = fit_linear_head(seen, train["label"].map(classes.index).to_numpy())
    write_linear(Path("models/linear.safetensors"), classes, weight, bias)
    best = (read_features(paths, "features") @ weight.T + bias).argmax(axis=1)

    # what each answers about valid
    answers = {
        "majority": [train["label"].mode()[0]] * len(valid),
        **pixel_answers(train, paths, params.size),
        "linear": [classes[i] for i in best],
    }
    label = valid["label"].to_numpy()
    errors = {name: error_of(np.array(answers[name]) != label) for name in BASELINES}
    write_json("metrics/baseline.json", {"valid": errors})


if __name__ == "__main__":
    run_stage(main)
