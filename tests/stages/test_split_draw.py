"""Drawing sides: stratified, stable, and refused if a class is too small."""

import os

import numpy as np
import pandas as pd

from pawprint.state import SplitParams
from stages.split import assign
from tests.support.project import Project, table

PARAMS = SplitParams(seed=1, valid_pct=0.2, test_pct=0.2, near_duplicates=4)


def test_a_class_of_one_picture_is_refused_by_name(small: Project):
    for path in sorted((small.path / "data/own/red").iterdir())[1:]:
        path.unlink()
    small.edit(**{"split.rare": "fail"})
    small.stage("gather")
    small.stage("verify")
    line = small.failing_stage("split")
    assert "class 'red' has 1 picture(s)" in line
    assert "split.valid_pct" in line or "split.test_pct" in line
    assert not (small.path / "data/split.csv").exists()


def images(n: int) -> pd.DataFrame:
    """A table of n pictures in two classes without near duplicates."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "path": [f"data/images/{'ab'[i % 2]}/{i:016x}.jpg" for i in range(n)],
            "label": ["ab"[i % 2] for i in range(n)],
            "phash": [f"{value:016x}" for value in rng.integers(0, 2**63, n)],
            "group": [f"{i:016x}" for i in range(n)],
            "split": "",
        }
    )


def test_the_split_is_stratified():
    drawn = images(200).assign(split=lambda rows: assign(rows, PARAMS))
    counts = pd.crosstab(drawn["label"], drawn["split"])
    assert counts.loc["a"].to_dict() == {"train": 60, "valid": 20, "test": 20}
    assert counts.loc["b"].to_dict() == {"train": 60, "valid": 20, "test": 20}


def test_split_reads_its_own_lock_again(small: Project):
    for name in ("gather", "verify", "split"):
        small.stage(name)
    before = table(small, "split").set_index("path")["split"]
    gone = table(small, "images").iloc[0]
    os.unlink(small.path / "data/own" / gone["url"])
    for name in ("gather", "verify", "split"):
        small.stage(name)
    after = table(small, "split").set_index("path")["split"]
    assert gone["path"] not in after
    assert after.to_dict() == before.drop(gone["path"]).to_dict()
    small.edit(**{"split.seed": 7})
    small.stage("split")
    assert table(small, "split").set_index("path")["split"].to_dict() != after.to_dict()
