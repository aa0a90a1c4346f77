"""The table of recipes counts wrong pictures, and params.yaml may hold every recipe."""

import pandas as pd
import pytest

from benchmarks.recipe import RECIPES, table
from pawprint.params import load_yaml
from pawprint.training.recipe import TrainParams
from tests.support.project import ROOT


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_one_that_params_yaml_may_hold(name):
    section = load_yaml(ROOT / "params.yaml")["train"]
    augment = section["augment"] | RECIPES[name].get("augment", {})
    TrainParams.model_validate(section | RECIPES[name] | {"augment": augment})


def test_auto_chooses_in_every_training_by_valid_alone():
    wrong = {42: [(0, 3, 9), (0.5, 5, 1), (1, 4, 1)], 43: [(0, 2, 1), (0.5, 2, 7), (1, 2, 1)]}
    rows = pd.DataFrame(
        [
            {
                "folder": "photos",
                "seed": seed,
                "recipe": "default",
                "blend": blend,
                "error_rate": valid / 10,
                "valid_loss": 1.0,
                "valid": valid,
                "test": test,
            }
            for seed, found in wrong.items()
            for blend, valid, test in found
        ]
    )
    # of the first seed 0 is taken, of the second, where all err alike, 0.5
    assert table(rows, "valid").splitlines()[-1] == "| default | 5 | 7 | 6 | 5 |"
    assert table(rows, "test").splitlines()[-1] == "| default | 10 | 8 | 2 | 16 |"
