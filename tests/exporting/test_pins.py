"""The versions of an exported page are those of requirements.lock."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

from pawprint.exporting import pins
from pawprint.exporting.card import SHIPPED
from pawprint.params import StageError
from tests.support.project import ROOT


def test_the_page_needs_what_the_lock_of_this_project_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    locked = pins.read_lock()
    text, versions = pins.pin((SHIPPED / "requirements.txt").read_text())
    assert set(versions) == {"gradio", "numpy", "onnxruntime", "pi-heif", "pillow"}
    assert all(locked[name] == version for name, version in versions.items())
    lines = [line.partition("  #")[0] for line in text.splitlines()]
    assert lines == [f"{name}=={version}" for name, version in versions.items()]


def test_of_several_versions_the_one_for_this_python_on_linux_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    minor = f"3.{sys.version_info.minor}"
    Path("requirements.lock").write_text(
        f"numpy==1.0 ; python_full_version < '{minor}'\n"
        f"numpy==2.0 ; python_full_version >= '{minor}' and sys_platform == 'linux'\n"
        "pillow==9.0 ; sys_platform == 'win32'\n"
    )
    text, _ = pins.pin("numpy>=1\npillow>=1  # pictures\n")
    here = importlib.metadata.version("pillow")  # which the lock does not name for Linux
    assert text == f"numpy==2.0\npillow=={here}  # pictures\n"
    with pytest.raises(StageError, match="does not name no-such-package"):
        pins.pin("no-such-package>=1\n")
