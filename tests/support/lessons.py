"""A lesson in a folder of its own, whose stages run as dvc.yaml says."""

import hashlib
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from benchmarks.project import edit_yaml
from pawprint.params import load_yaml
from tests.support.archives import tarred
from tests.support.project import ROOT
from tests.support.world import Server

LESSONS = ("segmentation", "tabular", "collab", "text", "mnist", "titanic", "sgd")
# Small and quick. What a lesson draws for itself is also what the tests serve as its archive.
SMALL: dict[str, dict[str, object]] = {
    "segmentation": {
        "gather.size": 12,
        "fit.width": 64,
        "fit.height": 64,
        "fit.epochs": 1,
        "compute.device": "cpu",
        "compute.threads": 1,
    },
    "tabular": {"gather.size": 500, "net.epochs": 2},
    "collab": {"gather.size": 1500, "fit.epochs": 2},
    "text": {"gather.size": 120, "baseline.words": [1], "baseline.inverse_penalty": [3, 10]},
    "mnist": {"gather.size": 80, "fit.epochs": 3},
    "titanic": {"gather.size": 60, "fit.steps": 4, "fit.hidden": 2},
    "sgd": {"fit.steps": 5},
}


class Lesson:
    """A copy of lessons/NAME, as a fresh checkout has it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / "lessons" / name
        ignored = shutil.ignore_patterns("__pycache__", "data", "metrics", "plots", "dvc.lock")
        shutil.copytree(ROOT / "lessons" / name, self.path, ignore=ignored)
        shutil.copyfile(ROOT / "lessons/gather.py", folder / "lessons/gather.py")
        self.stages: dict[str, Any] = load_yaml(self.path / "dvc.yaml")["stages"]
        self.edit(**SMALL[name])

    def edit(self, **changes: object) -> None:
        """Set values of params.yaml by dotted key."""
        edit_yaml(self.path / "params.yaml", **changes)

    def sample(self) -> dict[str, bytes]:
        """The files that the lesson draws for itself."""
        gather = load_yaml(self.path / "params.yaml")["gather"]
        draw = runpy.run_path(str(self.path / "sample.py"))["draw"]
        return dict(draw(gather["size"], gather["seed"]))

    def serve(self, server: Server, files: dict[str, bytes], mode: str = "w:gz") -> None:
        """Serve the files as the lesson's archive, and let archive.yaml name it."""
        about = load_yaml(self.path / "archive.yaml")
        content = next(iter(files.values()))
        if about.get("folder"):
            named = {f"{about['folder']}/{name}": files[name] for name in files}
            content = tarred(named, zipped=mode == "w:gz")
        server.answers["/archive.csv" if not about.get("folder") else "/archive.tgz"] = content
        about = {
            "archive": server.base + list(server.answers)[-1],
            "folder": about.get("folder", ""),
            "bytes": len(content),
            "md5_of_first_mib": hashlib.md5(content[: 1 << 20]).hexdigest(),
        }
        YAML().dump(about, self.path / "archive.yaml")
        self.edit(**{"gather.source": "archive.yaml", "gather.allow_private": True})

    def run(self, *only: str) -> None:
        """Run the stages, or `only` some of them, in this process."""
        for name in only or self.stages:
            _, script, *arguments = self.stages[name]["cmd"].split()
            before = Path.cwd(), sys.argv
            os.chdir(self.path)
            sys.argv = [script, *arguments]
            try:
                runpy.run_path(script, run_name="__main__")
            finally:
                os.chdir(before[0])
                sys.argv = before[1]

    def fail(self, *only: str) -> str:
        """Run a stage that must end with exit code 1 and one line; that line."""
        with pytest.raises(SystemExit) as caught:
            self.run(*only)
        message = str(caught.value.code)
        assert message.count("\n") == 0
        assert len(message) > 10
        return message

    def outs(self) -> dict[str, bytes]:
        """The content of every file that the stages declare to write."""
        found = {}
        for stage in self.stages.values():
            for key in ("outs", "metrics", "plots"):
                for entry in stage.get(key, []):
                    out = self.path / (next(iter(entry)) if isinstance(entry, dict) else entry)
                    files = [path for path in out.rglob("*") if path.is_file()]
                    for path in files if out.is_dir() else [out]:
                        found[path.relative_to(self.path).as_posix()] = path.read_bytes()
        return found

    def functions(self, script: str) -> dict[str, Any]:
        """What a script of the lesson defines, without running it."""
        return runpy.run_path(str(self.path / script))
