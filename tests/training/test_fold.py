"""Folding frozen batch-norm changes how a model computes, not what, nor what it learns."""

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pawprint.training.fold import ConvNorm, fold, settle
from pawprint.training.fused import FusedConv


def trained(arch: str) -> nn.Module:
    """Return a model in float64 whose batch-norms have statistics and weights of a trained one."""
    torch.manual_seed(0)
    model = timm.create_model(arch, num_classes=3).double().eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.2)
    return model


def gradients(
    asked: nn.Module, model: nn.Module, inputs: torch.Tensor
) -> tuple[torch.Tensor, dict]:
    model.zero_grad()
    answer = asked(inputs)
    answer.square().sum().backward()
    return answer, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("arch", "folded"),
    [
        ("test_efficientnet", 13),
        ("test_resnet", None),
        ("resnet18", 20),
        ("test_convnext", 0),
        ("test_vit", 0),
    ],
)
def test_answers_and_gradients_are_the_same_to_rounding(arch, folded):
    model = trained(arch)
    other = fold(model, 64 if arch != "test_vit" else 160)
    count = sum(isinstance(module, ConvNorm) for module in other.modules())
    assert count == (
        folded if folded is not None else sum(isinstance(m, _BatchNorm) for m in model.modules())
    )
    inputs = torch.rand(3, 3, 160, 160, dtype=torch.float64)
    answer, wanted = gradients(model, model, inputs)
    same, found = gradients(other, model, inputs)
    assert torch.allclose(answer, same, rtol=1e-9)
    assert all(torch.allclose(wanted[name], found[name], rtol=1e-6, atol=1e-9) for name in wanted)


def test_the_models_own_layers_names_and_mode_stay():
    model = trained("test_efficientnet").float().train()
    before = list(model.state_dict())
    other = fold(model, 64)
    assert model.training
    assert list(model.state_dict()) == before
    assert not any(isinstance(module, ConvNorm) for module in model.modules())
    assert {id(p) for p in other.parameters()} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("arch", ["test_efficientnet", "tf_mobilenetv3_small_100", "resnet18"])
def test_a_model_that_only_answers_has_no_batch_norm(arch):
    model = trained(arch).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settled = settle(model, 96).eval()
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(isinstance(module, (ConvNorm, _BatchNorm)) for module in settled.modules())
    inputs = torch.rand(3, 3, 96, 96, dtype=torch.float64)
    assert torch.allclose(settled(inputs), model.eval()(inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arch", ["tf_efficientnet_lite0", "mobilenetv2_050"])
def test_activations_within_convolutions_change_nothing_but_rounding(arch, monkeypatch):
    model = trained(arch).float().to(memory_format=torch.channels_last)
    fused = settle(model, 64).eval()
    convs = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert sum(isinstance(module, FusedConv) for module in fused.modules()) == convs
    assert not any(isinstance(module, nn.ReLU6) for module in fused.modules())
    monkeypatch.setattr("pawprint.training.fold.fuse", lambda conv, after: (conv, after))
    plain = settle(model, 64).eval()
    with torch.no_grad():
        for size in (64, 96):  # the pads of a "SAME" convolution depend on the size
            inputs = torch.rand(3, 3, size, size).contiguous(memory_format=torch.channels_last)
            assert torch.allclose(fused(inputs), plain(inputs), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weights_are_seen_through_activations(value):
    model = trained("tf_efficientnet_lite0").float()
    with torch.no_grad():
        model.blocks[0][0].conv_dw.weight.fill_(value)
        answer = settle(model, 64).eval()(torch.rand(1, 3, 64, 64))
    assert answer.isnan().any() == model.eval()(torch.rand(1, 3, 64, 64)).isnan().any()


class Shared(nn.Module):
    """A convolution whose output is also used without its batch-norm: folding it would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.constant_(self.norm.bias, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        seen = self.conv(inputs)
        return (seen + self.norm(seen)).mean(dim=(2, 3))


@pytest.mark.parametrize("zero", [False, True])
def test_a_model_that_cannot_be_folded_is_left_alone_even_where_a_new_head_hides_it(zero):
    model = nn.Sequential(Shared(), nn.Linear(4, 2))
    if zero:
        nn.init.zeros_(model[1].weight)
    assert fold(model, 16) is model
