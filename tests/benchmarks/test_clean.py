"""Labels are changed as said, policies act as the stage clean does, and the table counts."""

import shutil

import numpy as np
import pandas as pd
import pytest

from benchmarks.clean import POLICIES, flip, table, try_policy
from pawprint.params import load_params
from pawprint.training.features import hash_rows, write_features
from stages.clean import CleanParams
from tests.support.project import ROOT


def test_uniform_flips_change_the_share_asked_for_to_every_other_class():
    target = np.repeat([0, 1, 2], 200)
    flipped = flip(target, 3, 0.5, np.random.default_rng(42))
    assert (flipped != target).sum() == 300
    for own in range(3):
        counts = np.bincount(flipped[(target == own) & (flipped != own)], minlength=3)
        assert counts[own] == 0
        assert min(np.delete(counts, own)) > 30  # of about 100, two classes


def test_similar_flips_change_the_same_pictures_to_the_likeliest_other_class():
    target = np.array([0, 1, 2, 0])
    likely = np.array([[0.9, 0, 0.1], [0.6, 0.1, 0.3], [0, 0.6, 0.4], [1, 0, 0]])
    # the last cannot be judged, and changes too
    assert flip(target, 3, 1, np.random.default_rng(42), likely).tolist() == [2, 0, 1, 1]
    uniform, similar = (flip(target, 3, 0.5, np.random.default_rng(42), p) for p in (None, likely))
    assert ((uniform != target) == (similar != target)).all()
    assert flip(target, 3, 0, np.random.default_rng(42), likely).tolist() == target.tolist()


@pytest.fixture
def labels(tmp_path, monkeypatch):
    """Two classes that the features tell apart; two labels of train and one of valid are wrong."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    paths = [f"data/images/{i:02}.jpg" for i in range(60)]
    right = pd.DataFrame({"path": paths, "image": [f"{i:02}.jpg" for i in range(60)]})
    right["label"] = ["black", "teddy"] * 30
    right = right.assign(group=paths, split=["train"] * 40 + ["valid"] * 10 + ["test"] * 10)
    right = right.assign(action="", reason="")
    rows = np.where(right["label"] == "black", 0.0, 1.0)[:, None] * np.ones((60, 2))
    about = {"rows": hash_rows(paths)}
    (tmp_path / "data").mkdir()
    right[["path"]].assign(phash="0" * 16).to_csv("data/images.csv", index=False)
    write_features(60, [dict.fromkeys(("features", "mirrored", "maps"), rows)], about)
    changed = right.copy()
    changed.loc[[0, 2, 40], "label"] = "teddy"
    return changed, right


@pytest.mark.parametrize(
    ("auto", "threshold", "trained", "acted", "wrong", "made_right"),
    [
        ("flag", 0.6, 40, 0, 0, 0),
        ("drop", 0.6, 37, 4, 3, 0),
        ("drop", 0.9, 39, 2, 2, 0),
        ("relabel", 0.6, 40, 4, 3, 3),
        ("relabel", 0.9, 40, 2, 2, 2),
    ],
)
def test_a_policy_acts_from_its_threshold_on_and_counts_what_was_wrong(
    labels, auto, threshold, trained, acted, wrong, made_right
):
    changed, right = labels
    suspects = changed.loc[[0, 2, 40, 4]]  # the last is right, and the judge is not so sure
    judged = suspects[["path", "label", "split"]].assign(
        suggestion=["black", "black", "black", "teddy"],
        probability=[0.95, 0.8, 0.9, 0.7],
        suspected="yes",
    )
    params = load_params("clean", CleanParams)
    params = params.model_copy(update={"auto": auto, "threshold": threshold})
    row = try_policy(changed, right, judged, params)
    expected = {"trained": trained, "acted": acted, "acted_wrong": wrong, "made_right": made_right}
    assert row.items() >= expected.items()
    assert row["flipped"] == 3
    # right labels are what the answers are compared with
    assert row.items() >= {"valid": 0, "valid_pictures": 10, "test": 0, "test_pictures": 10}.items()


def test_every_policy_is_one_that_params_yaml_may_hold():
    params = load_params("clean", CleanParams, ROOT / "params.yaml")
    for policy in POLICIES:
        CleanParams.model_validate(params.model_dump() | policy)
    assert {"auto": params.auto, "threshold": params.threshold} in POLICIES


def test_the_table_sums_folders_and_seeds_and_has_a_column_per_share_and_kind():
    counts = {"acted": 500, "acted_wrong": 400, "made_right": 300}
    sides = {"valid_pictures": 600, "test_pictures": 50}
    rows = [
        {"seed": seed, "flip": share, "kind": kind, **policy, "valid": wrong, "test": 2 * wrong}
        | (counts if policy["auto"] != "flag" else dict.fromkeys(counts, 0))
        | sides
        for seed in (42, 43)
        for share, kind, wrong in ((0.2, "uniform", seed - 40), (0.1, "similar", 3))
        for policy in POLICIES
    ]
    lines = table(pd.DataFrame(rows), "valid").splitlines()
    assert "10 % similar, of 1,200 | 20 % uniform, of 1,200 | sum" in lines[0]
    assert lines[2] == "| flag | 6 | 5 | 11 | 0, 0, 0 |"
    assert lines[-2] == "| relabel, 0.9 | 6 | 5 | 11 | 2,000, 1,600, 1,200 |"
    assert table(pd.DataFrame(rows), "test").splitlines()[2] == "| flag | 12 | 10 | 22 | 0, 0, 0 |"
