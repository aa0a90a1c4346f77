"""A network in two parts computes what the whole one does, or stays whole."""

import pytest
import timm
import torch
from torch import nn

from pawprint.training.fold import fold, keep_statistics, try_folding
from pawprint.training.optimizer import freeze_first, layer_groups
from pawprint.training.parted import Parted, in_parts


def frozen(arch: str, share: float, **options: float) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(arch, num_classes=3, **options).to(memory_format=torch.channels_last)
    freeze_first(layer_groups(model, (1e-3, 1e-3)), share)
    return model


def folded_and_parted(model: nn.Module, size: int = 64) -> tuple[nn.Module, nn.Module]:
    pairs, _ = try_folding(model, size)
    folded = fold(model, size, pairs)
    return folded, in_parts(model, size, folded, pairs)


@pytest.mark.parametrize("share", [0.3, 0.75, 1])
@pytest.mark.parametrize(
    "arch", ["test_efficientnet", "resnet18", "test_convnext", "tf_mobilenetv3_small_100"]
)
def test_both_parts_give_the_answer_and_the_gradients_of_the_whole(arch, share):
    model = frozen(arch, share)
    folded, parted = folded_and_parted(model)
    assert isinstance(parted, Parted)
    keep_statistics(parted.train())
    keep_statistics(folded.train())
    inputs = torch.rand(3, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    gradients = []
    for each in (parted, folded):
        model.zero_grad()
        torch.manual_seed(1)
        answer = each(inputs)
        answer.square().sum().backward()
        learnt = [one.grad.clone() for one in model.parameters() if one.requires_grad]
        gradients.append((answer.detach(), learnt))
    (one, first), (other, second) = gradients
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)
    assert torch.equal(parted.end(parted.begin(inputs)), parted(inputs))


def test_what_has_learnt_answers_in_both_parts_too():
    model = frozen("test_efficientnet", 0.5)
    parted = folded_and_parted(model)[1].eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    inputs = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(parted(inputs), model.eval()(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "share", "options"),
    [
        ("test_efficientnet", 0, {}),  # nothing is frozen
        ("resnet18", 0.75, {"drop_path_rate": 0.2}),  # what is frozen draws
        ("test_vit", 0.5, {"img_size": 64}),  # positions are added between layers
    ],
)
def test_other_networks_stay_whole(arch, share, options):
    model = frozen(arch, share, **options)
    before = torch.get_rng_state()
    folded, parted = folded_and_parted(model)
    assert parted is folded
    assert torch.equal(before, torch.get_rng_state())


class Branches(nn.Module):
    """The second layer, which learns, sees the picture itself as well as the first, frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(inputs) + inputs).mean(dim=(2, 3))


@pytest.mark.parametrize("zero", [False, True])
def test_a_network_with_a_way_around_its_frozen_layers_stays_whole(zero):
    model = Branches()
    model.first.requires_grad_(False)
    if zero:  # a new head would hide it
        nn.init.zeros_(model.second.weight)
    before = model.second.weight.clone()
    _, parted = folded_and_parted(model, 16)
    assert parted is model
    assert torch.equal(model.second.weight, before)
