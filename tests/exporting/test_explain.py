"""Where the model looked: maps that add up to the logits, and a statement where there are none."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import timm
import torch

from pawprint.exporting.explain import find_maps
from pawprint.exporting.graph import ExportGraph, check_explanations, to_onnx
from tests.training.test_padding import graph_of

EXACT = {
    "resnet18": 64,
    "tf_efficientnet_lite0": 64,
    "convnext_atto": 64,  # a layer norm before the head
    "levit_128s": 224,  # tokens of a grid, and a batch norm before each of two heads
}
NONE = {"mobilenetv3_small_100": 64, "vit_tiny_patch16_224": 64}


def explaining(arch: str, size: int) -> ExportGraph:
    plain = graph_of(arch, size)
    graph = ExportGraph(plain.model, plain.config, explain=True).eval()
    graph.remember(plain.bank)
    return graph


def noise(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def ask(content: bytes, pictures: torch.Tensor) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"pictures": pictures.numpy()}), strict=True))


@pytest.mark.parametrize(("arch", "size"), EXACT.items())
@torch.no_grad()
def test_the_mean_of_a_map_and_the_bias_are_the_logit(arch: str, size: int):
    graph = explaining(arch, size)
    assert graph.maps is not None
    pictures = noise(3, size)
    *_, maps, _, _ = graph(pictures)
    assert maps.shape[:2] == (3, 5)
    assert min(maps.shape[2:]) > 1
    found = maps.mean(dim=(2, 3)) + graph.maps.bias
    # of the model itself, without any of our code
    shaped = ((pictures.float() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    expected = graph.model(shaped)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert maps.std(dim=(2, 3)).min() > 0


@torch.no_grad()
def test_maps_with_their_channels_last_are_understood():
    few = {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 1, 1, 1)}
    torch.manual_seed(0)
    model = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, num_classes=5, **few)
    maps = find_maps(model.eval(), replace(graph_of("test_resnet", 64).config, size=64))
    assert maps is not None
    assert maps.positions.layout == "channels last"
    inputs = torch.randn(2, 3, 64, 64)
    found = maps(model.forward_features(inputs)).mean(dim=(2, 3)) + maps.bias
    assert (found - model(inputs)).abs().max() < 1e-4


@pytest.mark.parametrize(("arch", "size"), NONE.items())
def test_a_model_without_exact_maps_has_none(arch: str, size: int):
    graph = graph_of(arch, size)
    assert find_maps(graph.model, graph.config) is None


@pytest.mark.parametrize("arch", ["test_convnext", "mobilenetv3_small_100"])
def test_a_graph_that_explains_itself_gives_the_same_answers(arch: str):
    plain, graph = graph_of(arch, 64), explaining(arch, 64)
    pictures = noise(3, 64)
    content = to_onnx(graph, 64)
    check_explanations(content, graph, pictures)
    found, expected = ask(content, pictures), ask(to_onnx(plain, 64), pictures)
    assert list(found)[:2] == list(expected) == ["probabilities", "none_score"]
    for name in expected:  # none_score to the last bit but one: the graphs are optimised apart
        assert found[name] == pytest.approx(expected[name], abs=1e-6)
    assert ("maps" in found) == (arch != "mobilenetv3_small_100")
    assert found["nearest"].shape == found["similarity"].shape == (3, 5)
    assert (np.diff(found["similarity"], axis=1) <= 0).all()
    assert found["none_score"] == pytest.approx(1 - found["similarity"].mean(axis=1), abs=1e-6)


def test_the_nearest_are_the_rows_of_the_bank_with_the_highest_cosines():
    graph = explaining("test_efficientnet", 64)
    pictures = noise(2, 64)
    found = ask(to_onnx(graph, 64), pictures)
    shaped = ((pictures.float() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    with torch.no_grad():
        seen = graph.model.forward_head(graph.model.forward_features(shaped), pre_logits=True)
    cosines = torch.nn.functional.cosine_similarity(seen[:, None], graph.bank[None], dim=2)
    for row, chosen in zip(cosines.numpy(), found["nearest"], strict=True):
        assert set(chosen.tolist()) == set(np.argsort(-row)[:5].tolist())
