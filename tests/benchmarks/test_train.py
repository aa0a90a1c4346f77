"""The training benchmark says what it needs, and its table compares what it claims to."""

import subprocess
import sys

from benchmarks import train
from benchmarks.project import ROOT


def test_without_fastai_the_benchmark_says_how_to_get_it(tmp_path):
    command = [sys.executable, "-m", "benchmarks.train", tmp_path]
    command += ["--fastai-python", tmp_path / "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "nowhere cannot import fastai" in done.stderr
    assert "--fastai-python" in done.stderr


def test_the_table_holds_means_over_seeds_and_their_ratios():
    same = {"fit_cpu": 300, "decode": 0, "error": 0.03, "memory": 6000, "pictures": 100}
    theirs = [{"fit": seconds, **same} for seconds in (90, 110)]
    own = {"fit": 20, "fit_cpu": 50, "decode": 1, "error": 0.02, "memory": 1500, "pictures": 100}
    rows = train.table({"fastai": theirs, "ours": [own, own]}).splitlines()
    assert "| 100.00 | 20.00 | 5.0 x as fast |" in rows[2]
    assert "| 300.00 | 50.00 | 6.0 x as few |" in rows[3]
    assert "| 3.00 | 2.00 | -1.00 |" in rows[5]
    assert "| 6000.00 | 1500.00 | 1/4.0 |" in rows[6]
