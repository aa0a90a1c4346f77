"""Every benchmark runs as `python -m benchmarks.NAME`, and the package lists them all."""

import re
import runpy
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
def test_a_benchmark_says_what_it_measures_and_how_to_run_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")  # as `python -m` does
    assert not ended.value.code
    assert f"python -m benchmarks.{name}" in capsys.readouterr().out
