"""Pictures in memory and on disk give the same batches, and those on disk do not stay in memory."""

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pawprint.params import StageError
from pawprint.pictures import batches, opening
from pawprint.pictures.batches import OnDisk, load_pictures
from pawprint.tables import write_json
from stages import train
from tests.support.project import ROOT, Project, make_pictures


@pytest.fixture
def paths(tmp_path, monkeypatch) -> list[str]:
    make_pictures(tmp_path / "own", {"red": 35, "green": 35})
    monkeypatch.chdir(tmp_path)
    return sorted(str(path) for path in (tmp_path / "own").rglob("*.jpg"))


def load_on_disk(paths: list[str], monkeypatch) -> OnDisk:
    monkeypatch.setattr(batches, "RESIDENT", 0)
    pictures = load_pictures(paths, 32, "crop", "bilinear")
    assert isinstance(pictures, OnDisk)
    return pictures


def test_few_pictures_stay_in_memory_and_many_give_the_same_batches_from_disk(paths, monkeypatch):
    memory = load_pictures(paths, 32, "crop", "bilinear")
    disk = load_on_disk(paths, monkeypatch)
    assert isinstance(memory, torch.Tensor)
    assert len(memory) == len(disk) == 70
    chosen = torch.randperm(70)[:33]
    assert torch.equal(memory[chosen], disk[chosen])
    assert torch.equal(memory[1::3][chosen[chosen < 20]], disk[1::3][chosen[chosen < 20]])
    assert len(memory.split(32)) == len(disk.split(32))
    for one, other in zip(
        memory[2:].split(32), disk[2:].to(torch.device("cpu")).split(32), strict=True
    ):
        assert torch.equal(one, other)


def test_pictures_on_disk_leave_no_file_behind(paths, monkeypatch, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    pictures = load_on_disk(paths, monkeypatch)
    assert sorted(tmp_path.rglob("*")) == before
    assert pictures[torch.tensor([0])].shape == (1, 32, 32, 3)


def test_a_full_disk_is_an_error_and_not_a_wrong_picture(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batches.os, "pwrite", lambda *_: 10)
    with pytest.raises(OSError, match="No space") as raised:
        OnDisk(2, 8)[0] = np.zeros((8, 8, 3), dtype=np.uint8)
    assert raised.value.errno == errno.ENOSPC


def test_a_picture_that_is_missing_broken_or_cut_short_is_named(paths, tmp_path):
    path = tmp_path / "own/red/000.jpg"
    whole = path.read_bytes()
    for content in (b"no picture", b"", whole[: len(whole) // 2], b"%!PS-Adobe-3.0 EPSF-3.0"):
        path.write_bytes(content)
        with pytest.raises(StageError, match=r"red/000\.jpg cannot be read"):
            load_pictures(paths, 32, "crop", "bilinear")
    path.unlink()
    with pytest.raises(StageError, match=r"red/000\.jpg cannot be read"):
        load_pictures(paths, 32, "crop", "bilinear")


def test_a_decoder_that_raises_something_odd_is_one_line_too(paths, monkeypatch):
    """Pillow's decoders raise SyntaxError, struct.error and others on broken files."""

    def broken(*_: object, **__: object) -> None:
        raise SyntaxError("broken\nchunk")

    monkeypatch.setattr(opening.Image, "open", broken)
    with pytest.raises(
        StageError, match=r"^\S+ cannot be read \(SyntaxError: broken chunk\); `dvc repro verify`"
    ):
        load_pictures(paths, 32, "crop", "bilinear")


def test_memory_does_not_grow_with_the_pictures_on_disk(tmp_path):
    """A process that writes and reads 400 MB in random order grows by less than 150 MB."""
    code = """
import resource, numpy as np, torch
from pawprint.pictures.batches import OnDisk
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
pictures = OnDisk(2000, 256)
for i in range(2000):
    pictures[i] = np.full((256, 256, 3), i % 251, dtype=np.uint8)
for batch in torch.randperm(2000).split(32):
    assert pictures[batch][:, 0, 0, 0].tolist() == [i % 251 for i in batch.tolist()]
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150


@pytest.fixture
def torch_as_before() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.mark.usefixtures("torch_as_before")
def test_training_from_disk_gives_the_same_bytes(
    small_seen: Project, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(small_seen.path)
    small_seen.edit(**{"compute.threads": 1})
    write_json("metrics/lr.json", {"first_layers": 2e-5, "head": 2e-3})
    models, kinds = [], set()
    load = batches.load_pictures

    def load_and_tell(*arguments: object) -> object:
        pictures = load(*arguments)
        kinds.add(type(pictures))
        return pictures

    monkeypatch.setattr(train, "load_pictures", load_and_tell)
    for limit in (batches.RESIDENT, 0):
        monkeypatch.setattr(batches, "RESIDENT", limit)
        name = f"models/{limit}.safetensors"
        line = f"--table data/split.csv --model {name} --metrics metrics/{limit}"
        monkeypatch.setattr("sys.argv", ["train", *line.split()])
        train.main()
        models.append(Path(name).read_bytes())
    assert kinds == {torch.Tensor, OnDisk}
    assert models[0] == models[1]
