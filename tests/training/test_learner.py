"""Training: exact, restartable in the sense that the same input gives the same bytes, and honest about failure."""

import json

import pytest
import torch
from torch import nn

from pawprint.params import StageError, check
from pawprint.training.augment import augment, geometry
from pawprint.training.learner import batch_sizes, layer_groups
from pawprint.training.model import (
    Head,
    body,
    create_model,
    load_model,
    packaged_weights,
    save_model,
)
from pawprint.training.recipe import AugmentParams, TrainParams
from pawprint.training.schedule import one_cycle
from tests.support.project import ROOT, Project
from tests.support.recipe import RECIPE, STILL, recipe


def prepare(small: Project) -> None:
    for name in ("gather", "verify", "split", "lr_find"):
        small.stage(name)


def train(small: Project, name: str, **environment: str) -> bytes:
    arguments = [
        "--table",
        "data/split.csv",
        "--model",
        f"models/{name}.safetensors",
        "--metrics",
        f"metrics/{name}",
    ]
    small.stage("train", *arguments, **environment)
    return (small.path / f"models/{name}.safetensors").read_bytes()


def test_an_architecture_with_a_fixed_input_is_made_for_the_size_or_refused_by_name():
    model, config = create_model(recipe(arch="test_vit", size=96, train_size=64), ["a", "b"])
    for size in (96, 64):
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 2)
    assert config.size == 96
    with pytest.raises(
        StageError,
        match=r"train.train_size is 64, and mixer_s16_224 takes no .* it was made for 224",
    ):
        create_model(recipe(arch="mixer_s16_224", size=224, train_size=64), ["a", "b"])


def test_sizes_are_the_architectures_own_unless_set():
    def sizes(**changes: object) -> tuple[int, int]:
        params = recipe(**{"size": "auto", "train_size": "auto", **changes})
        return params.size, params.train_size

    assert sizes(arch="tf_efficientnet_lite0") == (224, 176)
    assert sizes(arch="tf_efficientnet_lite2") == (260, 208)
    assert sizes(arch="vit_base_patch16_384") == (384, 384)  # takes one size only
    assert sizes(arch="tf_efficientnet_lite0", size=96) == (96, 80)
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


def test_a_head_may_be_a_convolution_or_two_layers_but_must_make_the_answers_from_the_features():
    for arch in ("levit_128s", "repvit_m0_9", "resnetv2_18"):
        model, _ = create_model(recipe(arch=arch, size=224, train_size=224), ["a", "b", "c"])
        assert Head(model).out_features == 3
        assert all(layer.weight.abs().sum() == 0 for layer in Head(model).linear())
        for layer in Head(model).linear():
            nn.init.normal_(layer.weight)
        pictures = torch.rand(2, 3, 224, 224)
        with torch.no_grad():
            expected, found = model.eval()(pictures), Head(model)(body(model, pictures))
        assert expected.shape == (2, 3)
        assert expected.abs().max() > 1e-3
        assert torch.allclose(found, expected, atol=1e-6, rtol=1e-3)
    for arch in ("deit_tiny_distilled_patch16_224", "caformer_s18"):
        with pytest.raises(
            StageError, match=rf"train.arch is '{arch}', which does not end in a linear layer"
        ):
            create_model(recipe(arch=arch, size=224, train_size=224), ["a", "b"])


def test_training_twice_gives_the_same_bytes(small: Project):
    prepare(small)
    first = train(small, "one", PYTHONHASHSEED="1", TZ="Asia/Tokyo")
    second = train(small, "two", PYTHONHASHSEED="2", LC_ALL="C")
    assert first == second
    for ending in ("json", "csv"):
        assert (small.path / f"metrics/one.{ending}").read_bytes() == (
            small.path / f"metrics/two.{ending}"
        ).read_bytes()
    small.edit(**{"train.seed": 43})
    assert train(small, "three") != first


def test_a_trained_model_beats_chance(small: Project):
    small.edit(**{"train.epochs": 6, "train.lr": [0.02, 0.02]})
    prepare(small)
    train(small, "one")
    figures = json.loads((small.path / "metrics/one.json").read_text())
    assert figures["error_rate"] <= 0.25
    assert figures["train_pictures"] == 36
    assert figures["valid_pictures"] == 12


def test_divergence_names_the_learning_rate(small: Project):
    small.edit(**{"train.lr": [10, 10], "train.epochs": 40, "train.label_smoothing": 0.0})
    prepare(small)
    arguments = [
        "--table",
        "data/split.csv",
        "--model",
        "models/x.safetensors",
        "--metrics",
        "metrics/x",
    ]
    done = small.run("python", "-m", "stages.train", *arguments)
    assert done.returncode == 1
    assert "train.lr" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (small.path / "models/x.safetensors").exists()


def test_lr_find_gives_a_rate_that_auto_can_take(small: Project):
    small.edit(**{"train.lr": "auto"})
    prepare(small)
    found = json.loads((small.path / "metrics/lr_find.json").read_text())
    if found["valley"] is None:
        assert found["note"]
    else:
        train(small, "one")
        assert json.loads((small.path / "metrics/one.json").read_text())["lr"] == found["valley"]


def test_a_saved_model_comes_back_the_same_with_its_configuration(tmp_path):
    model, config = create_model(recipe(), ["a", "b", "c"])
    save_model(tmp_path / "m.safetensors", model, config)
    again, same = load_model(tmp_path / "m.safetensors")
    picture = torch.rand(2, 3, 64, 64)
    assert same == config
    assert torch.equal(model.eval()(picture), again(picture))


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"not a model")
    with pytest.raises(StageError, match=r"m\.safetensors is not a model"):
        load_model(tmp_path / "m.safetensors")


def test_the_packaged_weights_fill_the_body_and_leave_the_head_new():
    model, config = create_model(recipe(arch="tf_efficientnet_lite0", pretrained=True), ["a", "b"])
    stored = torch.load(packaged_weights("tf_efficientnet_lite0"), weights_only=True)
    assert torch.equal(model.conv_stem.weight, stored["_conv_stem.weight"])
    assert torch.equal(model.bn2.running_var, stored["_bn1.running_var"])
    assert model.classifier.weight.shape == (2, 1280)
    assert model.classifier.weight.abs().sum() == 0
    assert config.mean == (0.5, 0.5, 0.5)
    assert config.interpolation == "bicubic"


def test_an_architecture_without_weights_at_hand_is_an_error(monkeypatch):
    import timm

    def unreachable(*_, pretrained: bool, **__):
        raise OSError("the hub is not to be reached")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(StageError, match=r"train\.arch is 'resnet18'.*train\.pretrained: false"):
        create_model(recipe(arch="resnet18", pretrained=True), ["a", "b"])


def test_weights_come_from_a_file_and_a_wrong_file_is_named(tmp_path):
    model, config = create_model(recipe(), ["a", "b", "c"])
    save_model(tmp_path / "w.safetensors", model, config)
    other, _ = create_model(recipe(weights=str(tmp_path / "w.safetensors")), ["a", "b"])
    assert torch.equal(other.conv_stem.weight, model.conv_stem.weight)
    with pytest.raises(StageError, match=r"nowhere\.pth', which does not exist"):
        create_model(recipe(weights="nowhere.pth"), ["a", "b"])
    with pytest.raises(StageError, match="does not fit the architecture"):
        create_model(
            recipe(arch="test_resnet", weights=str(tmp_path / "w.safetensors")), ["a", "b"]
        )


def test_without_augmentation_a_view_is_the_picture():
    pictures = torch.randint(0, 256, (3, 48, 48, 3), dtype=torch.uint8)
    views = augment(
        pictures, 48, AugmentParams.model_validate(STILL), torch.Generator().manual_seed(0)
    )
    assert torch.allclose(views, pictures.float() / 255, atol=1e-4)


def test_a_flip_is_a_mirror():
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    params = AugmentParams.model_validate({**STILL, "flip": 1})
    views = augment(pictures, 32, params, torch.Generator().manual_seed(0))
    assert torch.allclose(views, pictures.flip(2).float() / 255, atol=1e-4)


def test_crops_stay_inside_the_picture_and_keep_their_share():
    params = AugmentParams.model_validate({**STILL, "min_scale": 0.3})
    maps = geometry(500, params, torch.Generator().manual_seed(0))
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)])
    reached = corners @ maps.transpose(1, 2)
    assert reached[..., :2].abs().max() <= 1 + 1e-5
    area = maps[:, 0, 0].abs() * maps[:, 1, 1].abs()
    assert 0.25 < area.min() < 0.4
    assert area.max() > 0.9


def test_one_cycle_rises_and_falls_as_fastai_does():
    assert one_cycle(0) == pytest.approx((0.2, 0.95))
    assert one_cycle(0.3) == pytest.approx((1, 0.85))
    assert one_cycle(1) == pytest.approx((1e-5, 0.95))


def test_batches_are_nearly_equal():
    assert batch_sizes(65, 32) == [22, 22, 21]
    assert batch_sizes(64, 32) == [32, 32]
    assert batch_sizes(3, 32) == [3]


def test_layers_learn_faster_towards_the_head():
    model, _ = create_model(recipe(), ["a", "b"])
    groups = layer_groups(model, 1e-5, 1e-3)
    rates = [rate for _, rate in groups]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(1e-5)
    assert rates[-1] == pytest.approx(1e-3)
    assert sum(len(named) for named, _ in groups) == len(list(model.parameters()))
    assert "classifier.weight" in dict(groups[-1][0])


def test_params_yaml_is_the_recipe_it_says():
    from pawprint.params import load_params

    assert load_params("train", TrainParams, ROOT / "params.yaml").arch == "tf_efficientnet_lite0"
