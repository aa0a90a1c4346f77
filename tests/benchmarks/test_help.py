"""Every benchmark runs as `python -m benchmarks.NAME`, and the package lists them all."""

import re
import subprocess
import sys

import pytest

import benchmarks
from benchmarks.project import ROOT

NAMES = re.findall(r"python -m benchmarks\.(\w+)", benchmarks.__doc__)
PARTS = {"__init__", "project", "clock", "results", "ours_train"}
PARTS |= {"fastai_train", "fastai_segmentation", "fastai_predict"}


def test_the_package_lists_every_benchmark():
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert set(NAMES) == files - PARTS


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_says_what_it_measures_and_how_to_run_it(name):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert f"python -m benchmarks.{name}" in done.stdout
