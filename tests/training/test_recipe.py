"""The section `train` of params.yaml: what it may hold, and what is said of anything else."""

import pytest

from pawprint.params import StageError, check, load_params
from pawprint.training.recipe import TrainParams
from tests.support.project import ROOT
from tests.support.recipe import RECIPE, recipe


def refused(**changes: object) -> str:
    """Return the line that refuses a recipe."""
    with pytest.raises(StageError) as raised:
        check({**RECIPE, **changes}, TrainParams, "train", ROOT / "params.yaml")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_sizes_are_the_architectures_own_unless_set():
    def sizes(**changes: object) -> tuple[int, int]:
        params = recipe(**{"size": "auto", "train_size": "auto", **changes})
        return params.size, params.train_size

    assert sizes(arch="tf_efficientnet_lite0") == (224, 144)
    assert sizes(arch="tf_efficientnet_lite2") == (260, 160)
    assert sizes(arch="vit_base_patch16_384") == (384, 384)  # takes one size only
    assert sizes(arch="tf_efficientnet_lite0", size=96) == (96, 64)
    assert sizes(arch="tf_efficientnet_lite0", size=32) == (32, 32)
    assert sizes(arch="tf_efficientnet_lite0", train_size=128) == (224, 128)
    for value, reason in (
        ("large", "a number of pixels, or auto"),
        (16, "greater than or equal to 32"),
    ):
        with pytest.raises(StageError, match=f"train.size is {value!r}; it should be {reason}"):
            check(
                {**RECIPE, "size": value, "train_size": "auto"},
                TrainParams,
                "train",
                ROOT / "params.yaml",
            )
    unknown = {**RECIPE, "arch": "resnet1x", "size": "auto", "train_size": "auto"}
    with pytest.raises(
        StageError, match=r"params.yaml: train.arch is 'resnet1x'; it should be a name [^;]*$"
    ):
        check(unknown, TrainParams, "train", ROOT / "params.yaml")


@pytest.mark.parametrize(
    "value", [0, -1, 11, "high", True, [1e-3], [1e-2, 1e-3], [0, 1e-3], [1e-4, 1e-3, 1e-2]]
)
def test_an_impossible_rate_is_named(value):
    with pytest.raises(
        StageError, match=r"train\.lr is .*or auto, or two such numbers \[low, high\]"
    ):
        check({**RECIPE, "lr": value}, TrainParams, "train", ROOT / "params.yaml")


@pytest.mark.parametrize("blend", [-0.1, 1.1, "half", "", True, None, [0.5], float("nan")])
def test_an_impossible_blend_is_named(blend):
    assert "train.blend is" in refused(blend=blend)
    assert refused(blend=blend).endswith("it should be a number from 0 to 1, or auto")


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


def test_a_pair_of_learning_rates_is_the_first_layers_and_the_heads():
    assert recipe(lr=[1e-5, 1e-3]).lr == (1e-5, 1e-3)


def test_params_yaml_is_the_recipe_it_says():
    assert load_params("train", TrainParams, ROOT / "params.yaml").arch == "tf_efficientnet_lite0"


@pytest.mark.parametrize("arch", ["resnet18.", "resnet18.nonsense", "resnet18..", "RESNET18"])
def test_an_architecture_with_an_unknown_tag_is_refused_and_names_are_suggested(arch):
    for sizes in ({}, {"size": "auto", "train_size": "auto"}):
        line = refused(arch=arch, **sizes)
        assert f"train.arch is {arch!r}; it should be a name that timm knows, such as" in line
        assert "resnet18" in line.partition("such as")[2]


def test_a_known_tag_is_an_architecture():
    assert recipe(arch="resnet18.a1_in1k", size="auto", train_size="auto").size == 224


@pytest.mark.parametrize("seed", [-1, 2**32, 2**40, 10**30])
def test_a_seed_outside_32_bits_is_refused(seed):
    """scikit-learn and NumPy take no other."""
    assert f"train.seed is {seed}; it should be" in refused(seed=seed)
    assert recipe(seed=2**32 - 1).seed == 2**32 - 1


@pytest.mark.parametrize("weights", ["", " "])
def test_weights_without_a_name_are_refused(weights):
    """An empty path would mean the folder of the project."""
    assert "such as data/weights" in refused(weights=weights)
