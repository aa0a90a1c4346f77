"""The whole chain under DVC on a shrunken sample: what runs, and what runs again."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pawprint.exporting.browser import find_runtime, write_browser
from pawprint.exporting.shipped.predict import Classifier
from pawprint.params import StageError
from tests.support.browser import ASK, served
from tests.support.project import STAGES, Project, clone, expect, table


@pytest.fixture(scope="module")
def chain(origin: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in its own git repository after one `dvc repro` on 60 drawn pictures."""
    project = clone(origin, tmp_path_factory.mktemp("chain") / "project")
    expect(project, "dvc", "pull")
    return project


def test_the_table_of_contents_is_the_designs(chain: Project):
    dag = chain.run("dvc", "dag", "--mermaid").stdout
    assert all(f'"{name}"' in dag for name in STAGES), dag


def test_every_stage_leaves_what_it_declares(chain: Project):
    assert chain.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    judged = json.loads((chain.path / "metrics/evaluate.json").read_text())
    assert judged["as_gathered"]["first"]["pictures"] > 10
    assert (chain.path / "report.html").read_text().count("data:image/jpeg;base64,") > 10


def test_the_summary_says_where_to_look(chain: Project):
    said = chain.run("python", "-m", "pawprint", "summary").stdout
    assert "wrong on the test split" in said
    assert "first model" in said
    assert "retrained model" in said
    assert "report.html" in said
    assert "export/" in said


def test_metrics_and_plots_are_there_to_compare(chain: Project):
    shown = json.loads(chain.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    assert len(shown) == len(STAGES) - 2  # features and show_batch count nothing
    done = chain.run("dvc", "plots", "show", "--out", "shown")
    assert done.returncode == 0, done.stderr
    page = (chain.path / "shown/index.html").read_text()
    assert all(
        word in page
        for word in ("learning curves", "confusion matrix, test", "lr_find", "top_losses.png")
    )


def test_editing_the_learning_rate_runs_train_and_what_follows(chain: Project):
    before = (chain.path / "params.yaml").read_text()
    chain.edit(**{"train.lr": 0.001})
    try:
        said = expect(chain, "dvc", "repro", "--dry")
    finally:
        (chain.path / "params.yaml").write_text(before)
    stale = {name for name in STAGES if f"Running stage '{name}'" in said}
    # only what follows for certain: the rest depends on what train writes
    assert {"lr", "train", "retrain"} <= stale
    others = {"gather", "verify", "split", "baseline", "lr_find", "show_batch", "clean"}
    others |= {"features"}
    assert not stale & others


FIRST_TO_USE = {
    "pawprint/sources/sample.py": "gather",
    "stages/verify.py": "verify",
    "pawprint/compute/__init__.py": "gather",
    "pawprint/state.py": "split",
    "pawprint/training/schedule.py": "features",
    "pawprint/judging/report.html.j2": "split",
    "pawprint/exporting/shipped/app.py": "export",
    "data/decisions.csv": "clean",
}


def test_editing_a_file_runs_the_stages_that_use_it(chain: Project):
    """All are edited at once; each is in a dependency of its own, which DVC names."""
    before = {file: (chain.path / file).read_text() for file in FIRST_TO_USE}
    for file, text in before.items():
        (chain.path / file).write_text(text + "\n")
    try:
        status = json.loads(expect(chain, "dvc", "status", "--json"))
    finally:
        for file, text in before.items():
            (chain.path / file).write_text(text)
    found = {file: first_to_use(file, status) for file in FIRST_TO_USE}
    assert found == FIRST_TO_USE


def first_to_use(file: str, status: dict[str, list]) -> str:
    """The first stage for which `dvc status` names the file, or a folder that it is in."""
    for stage in STAGES:
        for changes in status.get(stage, []):
            deps = changes.get("changed deps", {}) if isinstance(changes, dict) else {}
            if any(file == dep or file.startswith(f"{dep}/") for dep in deps):
                return stage
    return "none"


def test_the_export_answers_without_torch_or_pawprint(chain: Project, tmp_path):
    shutil.copytree(chain.path / "export", tmp_path / "export")
    picture = next((chain.path / "data/images").rglob("*.jpg"))
    code = f"""
import sys
sys.path.insert(0, "{tmp_path / "export"}")
from PIL import Image
from predict import Classifier
answer = Classifier()(Image.open("{picture}"))["probabilities"]
assert abs(sum(answer.values()) - 1) < 1e-5, answer
assert not {{"torch", "timm", "stages", "pawprint"}} & set(sys.modules)
print(*answer)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["black", "grizzly", "teddy"]


def test_the_grids_are_pictures(chain: Project):
    with Image.open(chain.path / "plots/top_losses.png") as image:
        image.load()
        assert image.width > 500


def test_the_static_space_answers_every_test_picture_as_onnxruntime_does(
    chain: Project, browser: Any, tmp_path: Path
):
    """Without a network, once it is loaded."""
    try:
        runtime = find_runtime()
    except StageError as error:
        pytest.skip(f"onnxruntime-web is not installed: {error}")
    export = chain.path / "export"
    error = json.loads((chain.path / "metrics/export.json").read_text())["test"]
    write_browser(tmp_path / "space", export, runtime, classes=["a", "b"], test=error)
    page = browser.new_page()
    with served(tmp_path / "space") as address:
        page.goto(address)
        page.get_by_text("The page works offline now.").wait_for()
    page.context.set_offline(True)
    page.reload()
    page.get_by_text("black, grizzly or teddy?").wait_for()
    classifier = Classifier(export)
    test = table(chain, "split").query("split == 'test'")
    assert len(test) > 10
    stranger = tmp_path / "stranger.png"
    Image.effect_noise((120, 90), 80).save(stranger)
    none = []
    for path in [*(chain.path / path for path in test["path"]), stranger]:
        expected = classifier(path)
        with path.open("rb") as file:
            content = base64.b64encode(file.read()).decode()
        found = page.evaluate(ASK, content)
        assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-3)
        assert found["none_score"] == pytest.approx(expected["none_score"], abs=1e-3)
        assert found["none"] == expected["none"]
        none.append(found["none"])
    assert none[-1]
    assert not all(none)
