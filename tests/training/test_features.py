"""data/features.safetensors: what the body sees, written in pieces, read by path."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.numpy import load_file

from pawprint.params import StageError
from pawprint.tables import write_table
from pawprint.training import features
from pawprint.training.features import FEATURES, KINDS, hash_rows, read_features, write_features
from pawprint.training.inference import describe_pictures
from pawprint.training.stored import ModelConfig
from tests.support.project import Project

PATHS = [f"data/images/a/{i}.jpg" for i in range(10)]


def make(paths: list[str] = PATHS, body: str = "b") -> dict[str, np.ndarray]:
    """Write features of `paths` in three pieces; what each kind holds."""
    rng = np.random.default_rng(0)
    whole = {
        kind: rng.normal(size=(len(paths), width)).astype(np.float32)
        for kind, width in zip(KINDS, (3, 3, 4), strict=True)
    }
    pieces = [slice(0, 4), slice(4, 8), slice(8, None)]
    batches = ({kind: rows[piece] for kind, rows in whole.items()} for piece in pieces)
    write_table("data/images.csv", pd.DataFrame({"path": paths}))
    write_features(len(paths), batches, {"rows": hash_rows(paths), "body": body})
    return whole


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("at_a_time", [1024, 3, 1])
def test_rows_are_read_by_path_in_any_order(monkeypatch: pytest.MonkeyPatch, at_a_time: int):
    monkeypatch.setattr(features, "AT_A_TIME", at_a_time)
    whole = make()
    for kind in KINDS:
        for chosen in ([], [9], [3, 1, 7, 3], list(range(10))):
            found = read_features([PATHS[i] for i in chosen], kind)
            assert np.array_equal(found, whole[kind][chosen])


def test_the_file_is_what_safetensors_itself_reads():
    whole, found = make(), load_file(FEATURES)
    assert all(np.array_equal(found[kind], whole[kind]) for kind in KINDS)


def test_other_pictures_another_body_and_a_damaged_file_are_named():
    with pytest.raises(StageError, match=r"images\.csv is missing"):
        read_features(PATHS, "features")
    make()
    with pytest.raises(StageError, match="made from other pictures or weights: `dvc repro feat"):
        read_features(PATHS, "features", "another body")
    with pytest.raises(StageError, match=r"data/images\.csv does not list x\.jpg"):
        read_features(["x.jpg"], "features")
    write_table("data/images.csv", pd.DataFrame({"path": PATHS[1:]}))
    with pytest.raises(StageError, match="made from other pictures or weights"):
        read_features(PATHS[1:], "features")
    make()
    FEATURES.write_bytes(FEATURES.read_bytes()[:100])
    with pytest.raises(StageError, match=r"features\.safetensors is damaged"):
        read_features(PATHS, "features")
    FEATURES.unlink()
    with pytest.raises(StageError, match=r"features\.safetensors is missing"):
        read_features(PATHS, "features")


def test_a_run_that_breaks_off_leaves_nothing():
    def batches():
        yield {kind: np.zeros((4, 2), dtype=np.float32) for kind in KINDS}
        raise StageError("a picture is broken")

    with pytest.raises(StageError, match="broken"):
        write_features(8, batches(), {})
    assert list(Path("data").iterdir()) == []


def test_a_picture_and_its_mirror_image_are_described_alike_by_any_model(
    monkeypatch: pytest.MonkeyPatch,
):
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=2).eval()
    config = ModelConfig(
        "test_efficientnet", ("a", "b"), 96, "squish", "bilinear", (0.5,) * 3, (0.5,) * 3
    )
    pictures, cpu = torch.randint(0, 255, (3, 96, 96, 3), dtype=torch.uint8), torch.device("cpu")
    plain, mirrored, maps = describe_pictures(model, pictures, config, cpu)
    again = describe_pictures(model, pictures.flip(2), config, cpu)
    assert plain.shape == (3, model.get_classifier().in_features)
    assert maps.shape[1] % 2 == 0
    assert torch.allclose(plain, again[1], atol=1e-5)
    assert torch.allclose(mirrored, again[0], atol=1e-5)
    assert not torch.allclose(plain, mirrored, atol=1e-5)
    assert torch.allclose(maps, again[2], atol=1e-5)
    monkeypatch.delattr(type(model), "forward_intermediates")
    same, _, twice = describe_pictures(model, pictures, config, cpu)
    assert torch.allclose(same, plain, atol=1e-5)
    assert torch.allclose(twice, torch.cat([plain + mirrored] * 2, dim=1) / 2, atol=1e-5)


def test_the_stage_gives_the_same_bytes_and_imports_nothing_heavy_in_those_that_read_it(
    small: Project, monkeypatch: pytest.MonkeyPatch
):
    for name in ("gather", "verify", "split", "features"):
        small.stage(name)
    once = (small.path / FEATURES).read_bytes()
    small.edit(**{"train.seed": 7, "train.lr": 0.1, "train.epochs": 1, "split.seed": 3})
    small.stage("features")
    assert (small.path / FEATURES).read_bytes() == once
    header = json.loads(once[8 : 8 + int.from_bytes(once[:8], "little")])["__metadata__"]
    assert header["arch"] == "test_efficientnet"
    assert header["size"] == "64"
    for name in ("baseline", "lr_find", "clean"):
        heavy = {"timm", "torchvision"} | (set() if name == "lr_find" else {"torch"})
        code = (
            f"import sys; from stages import {name}; {name}.main();"
            f"assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
        )
        done = small.run("python", "-c", code)
        assert done.returncode == 0, done.stderr
