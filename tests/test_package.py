"""The package: what a wheel holds."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.project import ROOT

KINDS = (".py", ".html", ".css", ".js", ".svg", ".j2", ".txt")


def test_a_wheel_holds_every_module_page_and_template(tmp_path: Path):
    """They are opened beside the modules, also if the project is not checked out."""
    pytest.importorskip("setuptools", minversion="77", reason="setuptools 77 is not installed")
    source, built = tmp_path / "source", tmp_path / "built"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pawprint", source / "pawprint", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    built.mkdir()
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", code, str(built)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    files = (path for path in (ROOT / "pawprint").rglob("*") if path.suffix in KINDS)
    assert {path.relative_to(ROOT).as_posix() for path in files} <= inside
