"""Weights to start from: which file, and what is said of one that holds something else."""

import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pawprint.params import StageError
from pawprint.training.model import create_model, save_model
from pawprint.training.weights import find_weights, read_weights
from tests.support.recipe import recipe

Weights = dict[str, torch.Tensor]


@pytest.fixture
def weights() -> Weights:
    """Weights of the tiny architecture with three classes."""
    torch.manual_seed(7)
    return create_model(recipe(), ["a", "b", "c"])[0].state_dict()


def start_from(path: Path, arch: str = "test_efficientnet") -> Weights:
    """Return the weights of a new model with two classes that starts from a file or a folder."""
    return create_model(recipe(arch=arch, weights=str(path)), ["a", "b"])[0].state_dict()


def same_body(one: Weights, other: Weights) -> bool:
    names = [name for name in one if not name.startswith("classifier")]
    return all(torch.equal(one[name], other[name]) for name in names)


def refused(path: Path) -> str:
    """Return the line that refuses a weights file."""
    with pytest.raises(StageError) as raised:
        start_from(path)
    line = str(raised.value)
    assert "\n" not in line
    assert str(path) in line
    return line


# Which file


def test_a_file_is_itself_and_a_folder_is_its_only_weights_file(tmp_path, weights):
    assert find_weights(tmp_path) is None
    for name in ("README.md", ".hidden.pth", "._mine.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "old.pth").mkdir()
    assert find_weights(tmp_path) is None
    mine = tmp_path / "mine.SAFETENSORS"
    save_file(weights, mine)
    assert find_weights(tmp_path) == find_weights(mine) == mine
    assert same_body(start_from(tmp_path), weights)


def test_several_weights_files_in_a_folder_are_named(tmp_path):
    for name in ("b.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(StageError, match=r"holds a\.safetensors, b\.pth; name one of them"):
        find_weights(tmp_path)


def test_weights_that_do_not_exist_are_named_with_what_to_do(tmp_path):
    with pytest.raises(StageError, match=r"nowhere\.pth', which does not exist; name a weights fi"):
        find_weights(tmp_path / "nowhere.pth")


# What it holds


def test_a_model_that_pawprint_saved_is_a_start_but_not_for_another_architecture(tmp_path):
    path = tmp_path / "w.safetensors"
    model, config = create_model(recipe(), ["a", "b", "c"])
    save_model(path, model, config)
    assert same_body(start_from(path), model.state_dict())
    with pytest.raises(
        StageError, match=r"does not fit train\.arch; it has no conv1\.0\.weight of"
    ):
        start_from(path, arch="test_resnet")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
def test_weights_load_with_prefixes_and_nested_as_others_save_them(tmp_path, weights, prefix, key):
    content = OrderedDict((prefix + name, tensor) for name, tensor in weights.items())
    path = tmp_path / "w.pth"
    torch.save({key: content, "epoch": 3, "lr": 0.1} if key else content, path)
    assert same_body(start_from(path), weights)


def test_weights_load_from_a_state_dict_within_a_model(tmp_path, weights):
    torch.save({"model": {"state_dict": weights}, "epoch": 3}, tmp_path / "w.pt")
    assert same_body(start_from(tmp_path / "w.pt"), weights)


@pytest.mark.parametrize("arch", ["test_efficientnet", "tf_efficientnet_lite0"])
def test_weights_without_counts_of_batches_load(tmp_path, arch):
    """Old versions of torch did not keep num_batches_tracked."""
    weights = create_model(recipe(arch=arch), ["a", "b"])[0].state_dict()
    kept = {name: w for name, w in weights.items() if not name.endswith("num_batches_tracked")}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "w.safetensors")
    assert same_body(start_from(tmp_path / "w.safetensors", arch), weights)


def test_weights_in_half_precision_load(tmp_path, weights):
    half = {name: w.half() if w.is_floating_point() else w for name, w in weights.items()}
    torch.save(half, tmp_path / "w.bin")
    loaded = start_from(tmp_path / "w.bin")
    assert torch.allclose(loaded["conv_stem.weight"], weights["conv_stem.weight"], atol=1e-3)
    assert loaded["conv_stem.weight"].dtype == torch.float32


class Harm:
    """What unpickles into a call."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


def test_code_in_a_weights_file_is_refused_and_not_run(tmp_path):
    torch.save({"state_dict": Harm(tmp_path / "harmed")}, tmp_path / "w.pth")
    line = refused(tmp_path / "w.pth")
    assert "code in it is not run" in line
    assert "weights_only" not in line  # torch's own advice is to run the code
    assert not (tmp_path / "harmed").exists()


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    assert "save the model's state_dict" in refused(tmp_path / "w.pth")


NO_WEIGHTS = {
    "a list": [torch.zeros(2)],
    "numbers": [1, 2, 3],
    "one number": 5,
    "a text": "resnet18",
    "a tensor": torch.zeros(3),
    "none": None,
    "nothing": {},
    "nothing nested": {"state_dict": {}},
    "numbers by name": {"conv_stem.weight": 3.0},
    "tensors by number": {0: torch.zeros(2)},
    "a list nested": {"state_dict": [torch.zeros(2)]},
    "a sparse tensor": {"conv_stem.weight": torch.zeros(3, 3).to_sparse()},
    "complex numbers": {"conv_stem.weight": torch.zeros(3, dtype=torch.complex64)},
}


@pytest.mark.parametrize("content", NO_WEIGHTS.values(), ids=NO_WEIGHTS)
def test_a_torch_file_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    refused(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"PK\x03\x04", b"{}", b"[1, 2]", b"\x80\x04."]
)
def test_a_file_that_is_no_weights_file_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    assert re.search(r"holds no weights: \S", refused(path))


def test_a_weights_file_that_was_cut_short_is_refused(tmp_path, weights):
    for path in (tmp_path / "w.pth", tmp_path / "w.safetensors"):
        torch.save(weights, path) if path.suffix == ".pth" else save_file(weights, path)
        path.write_bytes(path.read_bytes()[:5000])
        assert "holds no weights" in refused(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, weights, value):
    weights["conv_stem.weight"][0, 0, 0, 0] = value
    save_file(weights, tmp_path / "w.safetensors")
    assert "is damaged: conv_stem.weight has values that are NaN" in refused(
        tmp_path / "w.safetensors"
    )


def test_reading_keeps_the_order_of_the_file(tmp_path, weights):
    """The packaged weights are loaded in order."""
    torch.save(weights, tmp_path / "w.pth")
    assert list(read_weights(tmp_path / "w.pth")) == list(weights)
