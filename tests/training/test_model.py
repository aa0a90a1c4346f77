"""A model: any architecture of timm with a new head, saved and loaded without running code."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save
from torch import nn

from pawprint.params import StageError
from pawprint.training.model import (
    Head,
    body,
    create_model,
    load_body,
    load_model,
    normalise,
    refuse_size,
    save_body,
    save_model,
)
from pawprint.training.stored import BODY, read_linear, write_linear
from pawprint.training.weights import packaged_weights
from tests.support.recipe import recipe


def test_an_architecture_with_a_fixed_input_is_made_for_the_size_or_refused_by_name():
    model, config = create_model(recipe(arch="test_vit", size=96, train_size=64), ["a", "b"])
    for size in (96, 64):
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 2)
    assert config.size == 96
    fixed, _ = create_model(recipe(arch="mixer_s16_224", size=224), ["a", "b"])
    with pytest.raises(
        StageError,
        match=r"train.train_size is 64, and mixer_s16_224 takes no .* it was made for 224",
    ):
        refuse_size(fixed, "mixer_s16_224", "train_size", 64)


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


def test_a_saved_model_comes_back_the_same_with_its_configuration(tmp_path):
    model, config = create_model(recipe(), ["a", "b", "c"])
    save_model(tmp_path / "m.safetensors", model, config)
    again, same = load_model(tmp_path / "m.safetensors")
    picture = torch.rand(2, 3, 64, 64)
    assert same == config
    assert torch.equal(model.eval()(picture), again(picture))


@pytest.mark.parametrize("arch", ["test_efficientnet", "levit_128s", "repvit_m0_9"])
def test_a_body_comes_back_with_a_head_of_zeros_and_with_the_linear_head_it_is_given(
    tmp_path, monkeypatch, arch: str
):
    monkeypatch.chdir(tmp_path)
    size = {"test_efficientnet": 64}.get(arch, 224)
    model, config = create_model(recipe(arch=arch, size=size), ["any"])
    save_body(BODY, model, config)
    save_body("other", *create_model(recipe(arch=arch, size=size, seed=7), ["a", "b", "c"]))
    again, same = load_body(["a", "b", "c"])
    assert same == replace(config, classes=("a", "b", "c"))
    picture = torch.rand(2, 3, size, size)
    with torch.no_grad():
        features = body(model.eval(), picture)
        assert torch.equal(body(again.eval(), picture), features)
        assert again(picture).abs().sum() == 0

    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, features.shape[1])), rng.normal(size=3)
    path = tmp_path / "linear.safetensors"
    write_linear(path, ["a", "b", "c"], weight, bias)
    classes, stored, added = read_linear(path)
    assert classes == ["a", "b", "c"]
    assert np.allclose(stored, weight)
    assert np.allclose(added, bias)
    linear, _ = load_model(path)
    with torch.no_grad():
        expected = Head(linear)(features)
        assert torch.allclose(linear(picture), expected, atol=1e-4)
        assert expected.abs().max() > 0.1


def test_a_body_that_is_missing_or_damaged_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=r"models/body\.safetensors is missing"):
        load_body(["a", "b"])
    BODY.parent.mkdir()
    BODY.write_bytes(b"not a model")
    with pytest.raises(StageError, match=r"models/body\.safetensors is not a model"):
        load_body(["a", "b"])
    with pytest.raises(StageError, match=r"models/body\.safetensors is damaged"):
        write_linear(tmp_path / "x", ["a", "b"], np.zeros((2, 3)), np.zeros(2))


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

    def unreachable(*_, pretrained: bool, **__):
        raise OSError("the hub cannot be reached")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(StageError, match=r"train\.arch is 'resnet18'.*train\.pretrained: false"):
        create_model(recipe(arch="resnet18", pretrained=True), ["a", "b"])


def damage(header: dict, weights: dict[str, torch.Tensor], what: str) -> None:
    """Change what a saved model holds, in place."""
    if what == "a tensor is missing":
        weights.pop("conv_stem.weight")
    elif what == "an unknown architecture":
        header["arch"] = "resnet18."
    elif what == "an unknown key":
        header["colour"] = "red"
    elif what == "no classes":
        header.pop("classes")
    elif what == "another number of classes":
        header["classes"] = ["a"]


@pytest.mark.parametrize(
    "what",
    [
        "a tensor is missing",
        "an unknown architecture",
        "an unknown key",
        "no classes",
        "another number of classes",
    ],
)
def test_a_saved_model_that_was_changed_by_hand_is_named(tmp_path, what):
    path = tmp_path / "m.safetensors"
    model, config = create_model(recipe(), ["a", "b"])
    header, weights = json.loads(json.dumps(asdict(config))), dict(model.state_dict())
    damage(header, weights, what)
    path.write_bytes(save(weights, metadata={"pawprint": json.dumps(header)}))
    with pytest.raises(StageError, match=r"m\.safetensors is not a model that pawprint saved"):
        load_model(path)


def test_an_architecture_that_timm_cannot_build_is_an_error_that_does_not_blame_the_hub(
    monkeypatch,
):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such layer")

    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(StageError, match=r"timm cannot build it \(no such layer\); choose another"):
        create_model(recipe(arch="resnet18"), ["a", "b"])


def test_normalised_pictures_have_their_channels_first_and_stay_as_they_lie_in_memory():
    _, config = create_model(recipe(arch="test_efficientnet", size=32), ["a", "b"])
    config = replace(config, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    pictures = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    expected = (pictures.numpy() / 255 - config.mean) / config.std
    for given in (pictures, pictures.float() / 255):
        found = normalise(given, config)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert np.allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)
