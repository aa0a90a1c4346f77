"""A throw-away copy of the project, for tests and benchmarks that run its stages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (
    "stages",
    "pawprint",
    "data/sources",
    "data/own",
    "data/strangers",
    "data/decisions.csv",
    ".dvcignore",
    "dvc.yaml",
    "params.yaml",
)


class Project:
    """A copy of the project in a temporary folder, whose params can be edited and whose stages can be run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in PROJECT:
            source, target = ROOT / name, path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)

    def edit(self, file: str = "params.yaml", **changes: object) -> None:
        """Set values by dotted key: edit(**{"train.epochs": 1})."""
        yaml, path = YAML(), self.path / file
        content = yaml.load(path)
        for key, value in changes.items():
            *parents, last = key.split(".")
            section = content
            for parent in parents:
                section = section[parent]
            section[last] = value
        yaml.dump(content, path)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project with this interpreter's own commands first on the PATH."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=self.path,
            env={**os.environ, "PATH": path, **environment},
            capture_output=True,
            text=True,
        )

    def stage(
        self, name: str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one stage as DVC does, and expect it to succeed."""
        done = self.run(sys.executable, "-m", f"stages.{name}", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done

    def failing_stage(self, name: str, *arguments: str) -> str:
        """Run one stage, expect exit code 1 and one line without a traceback; that line."""
        done = self.run(sys.executable, "-m", f"stages.{name}", *arguments)
        lines = [
            line
            for line in done.stderr.replace("\r", "\n").splitlines()
            if line.strip() and "%|" not in line
        ]
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert len(lines) == 1, done.stderr
        return lines[0]
