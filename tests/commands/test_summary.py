"""`pawprint summary`: what the last run gave, and one line if it cannot be said."""

import json
from pathlib import Path

import pytest

from pawprint.judging.errors import NAMES, error_rate
from tests.support.commands import pawprint


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    """The folder metrics/ after a run to the end."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    errors = {name: error_rate(wrong, 70) for wrong, name in enumerate(NAMES, start=2)}
    judged = {**errors, "summary": "as gathered", "beyond_linear": "beyond linear"}
    evaluated = {"as_gathered": judged, "as_cleaned": {**judged, "summary": "as cleaned"}}
    (folder / "evaluate.json").write_text(json.dumps(evaluated))
    (folder / "export.json").write_text(json.dumps({"model": "retrained"}))
    (folder / "split.json").write_text(json.dumps({"rare": {"not_tested": []}}))
    return folder


def test_classes_without_a_test_picture_are_a_line_and_many_of_them_are_counted(metrics: Path):
    names = [f"class {i}" for i in range(300)]
    (metrics / "split.json").write_text(json.dumps({"rare": {"not_tested": names}}))
    done = pawprint("summary", metrics.parent)
    assert (
        "300 class(es) without a test picture, not measured: class 0, class 1, class 2, class 3, "
        "class 4 and 295 more"
    ) in done.stdout.splitlines()


def test_every_model_is_a_line_with_its_interval(metrics: Path):
    done = pawprint("summary", metrics.parent)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line[:31].strip() for line in lines[1:7]] == list(NAMES.values())
    assert lines[6].split("  ")[-1].strip() == "10.0 % (4.9 to 19.2)"
    assert "with the labels as cleaned: as cleaned" in lines
    assert "export/      the retrained model as ONNX" in lines[-1]


@pytest.mark.parametrize("file", ["evaluate.json", "export.json", "split.json"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is missing: `dvc repro` makes it"),
        ("{", "cannot be read"),
        ("<<<<<<< HEAD\n{}", "cannot be read"),
        ("{}", "are not those of this version"),
        ("[]", "are not those of this version"),
    ],
)
def test_metrics_that_are_missing_or_damaged_are_said_in_one_line(
    metrics: Path, file: str, content: str | None, reason: str
):
    if content is None:
        (metrics / file).unlink()
    else:
        (metrics / file).write_text(content)
    done = pawprint("summary", metrics.parent)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert reason in done.stderr
