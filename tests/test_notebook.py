"""notebooks/bears.ipynb runs from its first cell to its last, on a finished project elsewhere."""

import json
import os
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from pawprint.state import read_decisions
from tests.support.project import ROOT, Project

NOTEBOOK = ROOT / "notebooks/bears.ipynb"
MAKE = """#!/bin/sh
echo "$@" >> ../made
exec dvc pull --quiet
"""


def test_git_holds_fifteen_cells_of_code_and_no_output():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = notebook["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 15
    assert not any(cell["outputs"] or cell["execution_count"] or cell["metadata"] for cell in code)
    assert [cell["id"] for cell in cells] == [f"cell-{i:02}" for i in range(1, len(cells) + 1)]


def test_the_notebook_clones_makes_and_goes_from_bears_to_the_share(
    origin: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`make` pulls what the project has made already, so that the stages have little to do."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat

    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in {"make": MAKE, "pip": "#!/bin/sh\n", "virtualenv": "#!/bin/sh\n"}.items():
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    path = [str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(path))
    monkeypatch.setenv("PAWPRINT", str(origin.path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    said = ["".join(out.get("text", "") for out in cell.outputs) for cell in code]
    data = [{kind for out in cell.outputs for kind in out.get("data", {})} for cell in code]
    assert (tmp_path / "made").read_text() == "install\n"
    assert "source: sample" in said[1]
    assert "didn't change" in said[2]
    assert "wrong on the test split" in said[13]
    assert "model USER/sample (private)" in said[14]
    assert said[14].count("data/images/") == 9  # three of each bear
    assert [i for i, kinds in enumerate(data) if "image/png" in kinds] == [5, 7, 8, 9]
    assert [i for i, kinds in enumerate(data) if "text/html" in kinds] == [3, 7, 11, 12]
    assert not read_decisions(tmp_path / "pawprint/data/decisions.csv")

    # the examples of decisions, taken at their word
    cell = re.sub(r"^(    )# (?=\()", r"\1", code[12].source, flags=re.MULTILINE)
    monkeypatch.chdir(tmp_path / "pawprint")
    exec(cell, {"pd": pd, "Path": Path, "HTML": str, "picture": str, "display": print})
    decided = read_decisions(classes=["black", "grizzly", "teddy"])
    assert [row["action"] for row in decided.values()] == ["delete", "relabel", "keep"]
