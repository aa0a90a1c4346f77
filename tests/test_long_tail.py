"""A long tail runs to the end: classes of one and two pictures, and one that decisions empty."""

import json
from pathlib import Path

import pytest

from pawprint.tables import read_table
from tests.stages.test_interpret import run_all
from tests.support.project import TINY, Project, make_pictures, table

FIRST = "gather verify split features baseline lr_find lr show_batch train interpret clean"


@pytest.mark.slow
def test_classes_of_one_and_two_pictures_run_to_the_end_and_are_named(project: Project):
    own = project.path / "data/own"
    make_pictures(own, {"red": 20, "green": 20, "blue": 2})
    (own / "gold").mkdir()
    (own / "red/000.jpg").rename(own / "gold/0.jpg")
    short = {"train.train_size": 64, "train.freeze_epochs": 2, "train.epochs": 1}
    rare = {"train.class_weights": "balanced", "export.quantize": True, "lr_find.num_it": 20}
    project.edit(**TINY, **short, **rare)
    run_all(project, FIRST)
    metrics = project.path / "metrics"
    assert json.loads((metrics / "split.json").read_text())["rare"] == {
        "not_validated": ["blue", "gold"],
        "not_tested": ["gold"],
        "left_out": [],
    }
    by_class = read_table(metrics / "classes.csv").set_index("class")
    assert by_class.loc["gold", ["recall", "support"]].tolist() == ["", "0"]
    assert "2 of 4 classes have no valid picture" in (project.path / "report.html").read_text()
    judged = table(project, "label_errors").set_index("label")
    assert judged.loc["gold", ["score", "issue", "suspected"]].tolist() == ["1", "", ""]

    # a person takes the only training picture of a class, and one class whole
    split = table(project, "split")
    gone = split[
        (split["label"] == "gold") | ((split["label"] == "blue") & (split["split"] == "train"))
    ]
    lines = [f"{Path(path).stem},delete" for path in gone["path"]]
    (project.path / "data/decisions.csv").write_text("\n".join(["image,action", *lines, ""]))
    run_all(project, "clean")
    done = project.stage(
        "train",
        "--table",
        "data/cleaned.csv",
        "--model",
        "models/retrained.safetensors",
        "--metrics",
        "metrics/retrain",
    )
    assert done.returncode == 0
    run_all(project, "evaluate export")
    errors = json.loads((metrics / "evaluate.json").read_text())["as_gathered"]["retrained"]
    assert errors["pictures"] == (split["split"] == "test").sum()
    assert "for 3 classes: blue, green, red." in (project.path / "export/README.md").read_text()
