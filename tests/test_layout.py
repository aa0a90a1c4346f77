"""Every arrow points down: the library knows no stage or command, and no stage knows another."""

import ast
from pathlib import Path

import pytest

from tests.support.project import ROOT, Project

# The floors of the library, the lowest first. A module may import from its own floor and below.
FLOORS = [
    {"params"},
    {"tables", "compute", "watch"},
    {"state", "pictures"},
    {"sources", "training"},
    {"judging"},
    {"exporting"},
    {"commands"},
    {"__main__"},
]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")


def module_of(path: Path) -> str:
    """The name under which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(text: str, module: str, is_package: bool = False) -> set[str]:
    """Every module that a text imports, in functions and by import_module too."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            above = parts[: len(parts) - node.level + is_package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            text = ast.unparse(node.args[0]) if node.args else ""
            found |= {text.strip("f'\"").split("{")[0].rstrip(".")}
    return {name for name in found if name.split(".")[0] in ("pawprint", "stages", "tests")}


def floor_of(module: str) -> int:
    """The floor of a module of pawprint; -1 for the package itself, which holds a docstring."""
    parts = module.split(".")
    if len(parts) == 1:
        return -1
    return next((i for i, floor in enumerate(FLOORS) if parts[1] in floor), len(FLOORS))


FILES = {
    module_of(path): path
    for folder in ("pawprint", "stages")
    for path in (ROOT / folder).rglob("*.py")
}


def upwards(module: str, imported: str) -> bool:
    """Whether an import goes up: to a stage, to a command from below, or to a higher floor."""
    if imported.split(".")[0] in ("stages", "tests"):
        return imported not in ("stages", module)
    if module.startswith("stages."):
        return floor_of(imported) >= floor_of("pawprint.commands")
    return floor_of(imported) > floor_of(module)


@pytest.mark.parametrize("module", sorted(FILES))
def test_no_arrow_points_upwards(module: str):
    path = FILES[module]
    imported = imports_of(path.read_text(encoding="utf-8"), module, path.stem == "__init__")
    assert [name for name in sorted(imported) if upwards(module, name)] == []


def test_modules_on_one_floor_do_not_import_each_other_in_circles():
    arrows: dict[str, set[str]] = {}
    for module, path in FILES.items():
        imported = imports_of(path.read_text(encoding="utf-8"), module, path.stem == "__init__")
        arrows[module] = {name for name in imported if name in FILES and name != module}
    done: set[str] = set()
    while True:
        free = {name for name in FILES if name not in done and arrows[name] <= done}
        if not free:
            break
        done |= free
    assert sorted(set(FILES) - done) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("pawprint.judging.grids", "from pawprint.commands import review"),
        ("pawprint.judging.grids", "def f():\n    import stages.split"),
        ("pawprint.judging.grids", "from pawprint.exporting.graph import BANK"),
        ("pawprint.judging.grids", "from ..exporting import graph"),
        ("pawprint.sources.folder", "importlib.import_module(f'pawprint.commands.{name}')"),
        ("stages.clean", "from stages.split import main"),
        ("stages.clean", "from stages import split"),
        ("stages.clean", "import pawprint.commands.summary"),
    ],
)
def test_an_arrow_upwards_would_be_seen(module: str, text: str):
    assert any(upwards(module, name) for name in imports_of(text, module))


def test_stages_holds_the_scripts_that_dvc_runs_and_nothing_else():
    from pawprint.params import load_yaml

    stages = load_yaml(ROOT / "dvc.yaml")["stages"]
    run = {stage["cmd"].split()[2].removeprefix("stages.") for stage in stages.values()}
    files = {path.name for path in (ROOT / "stages").iterdir()} - {"__pycache__", "__init__.py"}
    assert files == {f"{name}.py" for name in run}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_its_params_in_main_alone(stage: str):
    tree = ast.parse((ROOT / f"stages/{stage}.py").read_text(encoding="utf-8"))
    outside = [node for node in tree.body if getattr(node, "name", "") != "main"]
    calls = [node for part in outside for node in ast.walk(part) if isinstance(node, ast.Call)]
    assert not [call for call in calls if ast.unparse(call.func) in ("load_params", "load_yaml")]


def test_the_library_reads_no_params():
    readers = {
        module
        for module, path in FILES.items()
        if module.startswith("pawprint.") and "load_params(" in path.read_text(encoding="utf-8")
    }
    assert readers == {"pawprint.params"}


@pytest.mark.parametrize("stage", ["gather", "verify", "split"])
def test_a_stage_without_a_model_imports_no_torch(project: Project, stage):
    done = project.run(
        "python", "-c", f"import sys, stages.{stage}; sys.exit('torch' in sys.modules)"
    )
    assert done.returncode == 0, done.stderr
