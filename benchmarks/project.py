"""A copy of the project in a folder of its own, whose params can be edited and its stages run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from pawprint.pictures.formats import looks_like_picture

ROOT = Path(__file__).resolve().parents[1]
CONTENT = (
    "stages",
    "pawprint",
    "data/sources",
    "data/own",
    "data/added",
    "data/strangers",
    "data/weights",
    "data/decisions.csv",
    ".dvcignore",
    "dvc.yaml",
    "params.yaml",
    "requirements.lock",
)


def edit_yaml(path: Path, /, **changes: object) -> None:
    """Set values of a YAML file by dotted key; comments stay."""
    yaml = YAML()
    content = yaml.load(path)
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[last] = value
    yaml.dump(content, path)


class ProjectCopy:
    """The project as a fresh checkout has it: no pictures, no models, no metrics."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in CONTENT:
            source, target = ROOT / name, path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)

    def edit(self, file: str = "params.yaml", /, **changes: object) -> None:
        """Set values by dotted key: edit(**{"train.epochs": 1})."""
        edit_yaml(self.path / file, **changes)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; this interpreter's own commands come first on the PATH."""
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
        """Run one stage as DVC does. Raises AssertionError with its messages if it fails."""
        done = self.run(sys.executable, "-m", f"stages.{name}", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done


def photos_in(folder: Path) -> list[Path]:
    """Return the pictures in a folder and in those below it, sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if looks_like_picture(path.relative_to(folder).as_posix())]
