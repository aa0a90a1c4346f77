"""Cleaning by machine finds wrong labels on real photos, and by hand is never overruled or fatal."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.clean import CleanParams, judge, odd_ones_out
from tests.conftest import ROOT, Project

CATS_AND_DOGS = Path(__file__).resolve().parents[2] / "shared" / "data" / "cats_and_dogs"
PARAMS = CleanParams(auto="drop", near_duplicates="drop", folds=5, threshold=0.8)


@pytest.mark.slow
def test_wrong_labels_are_found_among_cats_and_dogs(monkeypatch: pytest.MonkeyPatch):
    if not CATS_AND_DOGS.is_dir():
        pytest.skip(f"there are no photos in {CATS_AND_DOGS}")
    monkeypatch.chdir(ROOT)
    by_class = [sorted(folder.rglob("*.jpg"))[:200] for folder in sorted(CATS_AND_DOGS.iterdir()) if folder.is_dir()]
    paths = [path for files in by_class if len(files) == 200 for path in files]
    names = sorted({path.relative_to(CATS_AND_DOGS).parts[0] for path in paths})
    true = np.array([path.relative_to(CATS_AND_DOGS).parts[0] for path in paths], dtype=object)
    flipped = np.zeros(len(paths), dtype=bool)
    flipped[np.random.default_rng(0).choice(len(paths), len(paths) // 20, replace=False)] = True
    label = np.where(flipped, np.where(true == names[0], names[1], names[0]), true)
    rows = pd.DataFrame({"path": [str(path) for path in paths], "label": label, "split": "train"})
    judged = judge(rows.assign(group=rows["path"]), PARAMS)
    wrong = judged["path"].isin(rows.loc[flipped, "path"])
    found = wrong.head(int(0.08 * len(paths))).sum() / flipped.sum()
    precision = wrong[judged["suspected"] == "yes"].mean()
    print(f"found {found:.3f}, precision {precision:.3f}, suspected {(judged['suspected'] == 'yes').sum()}")
    assert found >= 0.9
    assert precision >= 0.8


def test_a_picture_of_none_of_the_classes_is_the_odd_one_out():
    rng = np.random.default_rng(0)
    seen = np.abs(rng.normal(0, 0.1, (60, 32)) + np.repeat(np.eye(2, 32), 30, axis=0) * 3)
    seen[7] = np.eye(32)[20] * 3
    distance, odd = odd_ones_out(seen, np.arange(60))
    assert np.flatnonzero(odd).tolist() == [7]
    assert distance.argmax() == 7


def test_a_person_wins_and_pictures_that_are_gone_are_reported(small: Project):
    small.edit(**{"clean.folds": 2, "clean.threshold": 0.5})
    (small.path / "data/own/README.md").unlink(missing_ok=True)
    for name in ("gather", "verify", "split"):
        small.stage(name)
    table = pd.read_csv(small.path / "data/split.csv")
    images = [Path(path).stem for path in table["path"]]
    decisions = [f"{image},keep,,ada," for image in images[2:]]
    decisions += [f"{images[0]},delete,,ada,blurred", f"{images[1]},relabel,red,ada,", "0123456789abcdef,delete,,ada,"]
    (small.path / "data/decisions.csv").write_text("\n".join(["image,action,label,by,note", *decisions]) + "\n")
    small.stage("clean")
    cleaned = pd.read_csv(small.path / "data/cleaned.csv", keep_default_na=False)
    assert len(cleaned) == len(table) - 1
    kept = table.merge(cleaned, on="path")
    assert (kept["split_x"] == kept["split_y"]).all()
    assert cleaned.loc[cleaned["path"] == table["path"][1], "label"].tolist() == ["red"]
    assert "0123456789abcdef" in (small.path / "metrics/clean.json").read_text()
