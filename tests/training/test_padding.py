"""Padding as "SAME": constant when exported, without a copy in torch, and the same answers."""

import copy
import sys

import onnx
import onnxruntime
import pytest
import torch
from timm.layers import AvgPool2dSame, Conv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import nn

from pawprint.exporting.graph import ExportGraph, check_onnx, run_onnx, to_onnx
from pawprint.training.model import Head, build
from pawprint.training.padding import pad_by_kernel, with_constant_pads
from pawprint.training.stored import ModelConfig

FAMILIES = {
    "tf_efficientnet_lite0": 67,
    "tf_efficientnetv2_b0": 64,
    "test_efficientnet": 64,
    "mobilenetv3_small_100": 64,
    "resnet18": 64,
    "convnext_atto": 64,
    "levit_128s": 224,
    "vit_tiny_patch16_224": 64,
}
LAYERS = [
    Conv2dSame(3, 5, 3, stride=2),
    Conv2dSame(3, 5, (5, 2), stride=(1, 3)),
    Conv2dSame(3, 5, 3, stride=2, dilation=2),
    Conv2dSame(3, 3, 4, stride=4, groups=3, bias=False),
    AvgPool2dSame(3, stride=2),
    AvgPool2dSame(2, stride=1),
    MaxPool2dSame(3, stride=2),
    MaxPool2dSame((2, 3), stride=2),
    StdConv2dSame(3, 5, 3, stride=2),
    StdConv2dSame(3, 5, 3),  # symmetric: padded by the convolution itself
    ScaledStdConv2dSame(3, 5, 3, stride=2),
]


def graph_of(arch: str, size: int) -> ExportGraph:
    """A graph with random weights, all different, and random pictures to compare with."""
    torch.manual_seed(0)
    model = build(arch, size, pretrained=False, num_classes=5).eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    head = Head(model)
    head.put(torch.randn(5, head.in_features))
    around = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    config = ModelConfig(arch, tuple("abcde"), size, "crop", "bilinear", **around)
    graph = ExportGraph(model, config).eval()
    graph.remember(torch.rand(50, head.in_features))
    return graph


@pytest.mark.parametrize(("arch", "size"), FAMILIES.items())
def test_onnx_answers_as_torch_does(arch: str, size: int):
    graph = graph_of(arch, size)
    content = to_onnx(graph, size)
    for number in (1, 5):  # traced with two
        pictures = torch.randint(0, 256, (number, size, size, 3), dtype=torch.uint8)
        check_onnx(*run_onnx(content, pictures), graph, pictures)


def test_the_padding_becomes_part_of_the_convolutions(tmp_path):
    content = to_onnx(graph_of("tf_efficientnet_lite0", 64), 64)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert "Conv" in kinds
    assert not kinds & {"Pad", "Ceil", "Slice"}


def test_pictures_are_turned_before_they_are_computed_with():
    """With the colours innermost, onnxruntime takes ten times as long to normalise a picture."""
    graph = onnx.load_from_string(to_onnx(graph_of("tf_efficientnet_lite0", 64), 64)).graph
    kinds = [node.op_type for node in graph.node if node.op_type != "Constant"]
    assert kinds[:5] == ["Transpose", "Cast", "Div", "Sub", "Div"]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("size", [(16, 16), (15, 17), (9, 8)], ids=str)
def test_a_layer_computes_the_same(layer: nn.Module, size: tuple[int, int], monkeypatch):
    pictures = torch.randn(2, 3, *size)
    expected = layer(pictures)
    constant = with_constant_pads(nn.Sequential(layer), pictures)
    assert torch.equal(layer(pictures), expected)  # only the copy was changed
    monkeypatch.setattr("timm.layers.padding.get_same_padding", None)  # what computes padding
    assert torch.equal(constant(pictures), expected)


def test_a_layer_that_sees_two_sizes_stays_as_it_is():
    shared = Conv2dSame(3, 3, 3, stride=2)
    twice = nn.Sequential(shared, shared)
    pictures = torch.randn(1, 3, 15, 15)
    assert torch.equal(with_constant_pads(twice, pictures)(pictures), twice(pictures))


@pytest.mark.parametrize(
    "layer",
    [layer for layer in LAYERS if type(layer) is Conv2dSame and layer.dilation == (1, 1)]
    + [Conv2dSame(4, 4, 3, stride=2, groups=4), Conv2dSame(4, 6, (3, 4), stride=(2, 1))],
    ids=str,
)
@pytest.mark.parametrize("size", [(16, 16), (15, 17), (9, 8), (2, 3)], ids=str)
def test_a_kernel_that_pads_gives_the_same_answers_and_gradients_without_a_copy(
    layer: nn.Module, size: tuple[int, int], monkeypatch
):
    layer = copy.deepcopy(layer).double()
    pictures = torch.randn(2, layer.in_channels, *size, dtype=torch.float64, requires_grad=True)
    leaves = (pictures, *layer.parameters())
    expected = layer(pictures)
    wanted = torch.autograd.grad(expected.square().sum(), leaves)
    pad_by_kernel(layer)
    # what copies; the module has a function of its name
    monkeypatch.setattr(sys.modules["timm.layers.conv2d_same"], "pad_same", None)
    answer = layer(pictures)
    found = torch.autograd.grad(answer.square().sum(), leaves)
    assert torch.allclose(answer, expected)
    assert all(torch.allclose(a, b) for a, b in zip(found, wanted, strict=True))


def test_kernels_with_gaps_are_padded_as_before():
    layer = Conv2dSame(3, 5, 3, stride=2, dilation=2)
    pictures = torch.randn(2, 3, 15, 16)
    expected = layer(pictures)
    assert torch.equal(pad_by_kernel(layer)(pictures), expected)
