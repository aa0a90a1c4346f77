"""Many pictures: the same numbers, from a file instead of memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.vision import batches
from tests.conftest import ROOT, make_pictures

MEMORY = """
import sys
from pathlib import Path
from stages.vision import batches
batches.IN_MEMORY = 1 << 20
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
before = anonymous()
pictures = batches.load_pictures([sys.argv[1]] * 100, 1024, "crop", "bilinear")
assert pictures[99].float().mean() > 10
print((anonymous() - before) // 1024)
"""


def test_pictures_in_a_file_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_pictures(tmp_path / "p", {"red": 5})
    monkeypatch.chdir(tmp_path)
    paths = sorted(map(str, Path("p/red").iterdir()))
    in_memory = batches.load_pictures(paths, 64, "crop", "bilinear")
    monkeypatch.setattr(batches, "IN_MEMORY", 1000)
    in_file = batches.load_pictures(paths, 64, "crop", "bilinear")
    assert torch.equal(in_memory, in_file)
    in_file[0] = 0  # writable, as torch wants it
    assert os.listdir(tmp_path) == ["p"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_more_pictures_than_memory_should_hold_are_mapped(tmp_path: Path):
    """300 MB of pictures take less than 100 MB of the process's own."""
    make_pictures(tmp_path, {"red": 1})
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "red/000.jpg")]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100
