"""The whole chain under DVC on a shrunken sample: every stage runs, and only what must run runs again."""

import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from tests.support.project import ROOT, STAGES, Project, clone, expect

# What each module imports from here, each in a process of its own, after what takes long was imported once for all.
IMPORTS = """
import importlib, os, sys
import cleanlab, matplotlib, onnxruntime, pandas, scipy.stats, sklearn, timm, torchvision
for name in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(name)
        print(name, *sorted(m.__file__ for each, m in sys.modules.items() if each.startswith("stages.")), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, name
"""


@pytest.fixture(scope="module")
def chain(origin: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in its own git repository after one `dvc repro` on 60 drawn pictures."""
    project = clone(origin, tmp_path_factory.mktemp("chain") / "project")
    expect(project, "dvc", "pull")
    return project


def stale(project: Project) -> list[str]:
    """The stages that `dvc repro` would run."""
    done = project.run("dvc", "repro", "--dry")
    assert done.returncode == 0, done.stderr
    return [name for name in STAGES if f"Running stage '{name}'" in done.stdout]


def test_the_table_of_contents_is_the_designs(chain: Project):
    dag = chain.run("dvc", "dag", "--mermaid").stdout
    assert all(f'"{name}"' in dag for name in STAGES), dag


def test_every_stage_leaves_what_it_declares(chain: Project):
    assert chain.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert stale(chain) == []
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
    assert len(shown) == len(STAGES)
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
        # only what follows for certain: the rest depends on what train writes
        assert stale(chain)[:1] == ["train"]
        assert not set(stale(chain)) & {"gather", "verify", "split", "baseline", "lr_find"}
    finally:
        (chain.path / "params.yaml").write_text(before)


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("stages/sources/sample.py", "gather"),
        ("stages/verify.py", "verify"),
        ("stages/vision/schedule.py", "lr_find"),
        ("stages/vision/grids.py", "interpret"),
        ("stages/report.html.j2", "interpret"),
        ("pawprint/shipped/app.py", "export"),
        ("data/decisions.csv", "clean"),
    ],
)
def test_editing_a_file_runs_the_stages_that_use_it(chain: Project, file, first):
    path = chain.path / file
    before = path.read_text()
    path.write_text(before + "\n")
    try:
        assert stale(chain)[0] == first
    finally:
        path.write_text(before)


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


def test_no_stage_imports_another():
    for path in (ROOT / "stages").glob("*.py"):
        others = [name for name in [*STAGES, "baseline"] if name != path.stem]
        text = path.read_text()
        assert [
            name
            for name in others
            if f"from stages.{name} import" in text or f"import stages.{name}" in text
        ] == []


def test_every_import_of_a_stage_is_declared_in_dvc_yaml():
    """Editing a helper must rerun the stages that use it, so each stage declares all that it imports from here."""
    from ruamel.yaml import YAML

    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    modules = {name: stage["cmd"].split()[2] for name, stage in stages.items()}
    command = [sys.executable, "-c", IMPORTS, *modules.values()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = {module: files for module, *files in map(str.split, done.stdout.splitlines())}
    for name, stage in stages.items():
        files = imported[modules[name]]
        used = [path.removeprefix(f"{ROOT}/") for path in files if not path.endswith("__init__.py")]
        assert f"stages/{modules[name].split('.')[1]}.py" in used
        missing = [
            path
            for path in used
            if not any(path == dep or path.startswith(f"{dep}/") for dep in stage["deps"])
        ]
        assert missing == [], name
