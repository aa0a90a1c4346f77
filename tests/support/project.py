"""A throw-away copy of the project, for tests and benchmarks that run its stages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
PROJECT = (
    "stages",
    "pawprint",
    "data/sources",
    "data/own",
    "data/strangers",
    "data/weights",
    "data/decisions.csv",
    ".dvcignore",
    "dvc.yaml",
    "params.yaml",
)


def edit_yaml(path: Path, **changes: object) -> None:
    """Set values of a YAML file by dotted key."""
    yaml = YAML()
    content = yaml.load(path)
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[last] = value
    yaml.dump(content, path)


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
        edit_yaml(self.path / file, **changes)

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


PHOTOS = ROOT.parent / "shared" / "data"


def make_pictures(folder: Path, classes: dict[str, int], size: int = 96) -> None:
    """Write pictures that a small model can tell apart: a class has its own main colour, a picture its own pattern."""
    colours = [(190, 60, 50), (50, 160, 70), (60, 80, 190)]
    for (name, count), colour in zip(classes.items(), colours, strict=False):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            noise = np.random.default_rng([i, *colour])
            blocks = Image.fromarray(noise.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
                (size, size)
            )
            Image.blend(Image.new("RGB", (size, size), colour), blocks, 0.45).save(
                folder / name / f"{i:03}.jpg"
            )


TINY = {
    "gather.source": "folder",
    "compute.device": "cpu",
    "train.arch": "test_efficientnet",
    "train.pretrained": False,
    "train.size": 64,
}


def shrink(project: Project) -> None:
    """Sixty drawn pictures and one short epoch, everything else as the default run."""
    project.edit("data/sources/sample.yaml", size=60)
    project.edit(
        **{
            "compute.threads": 2,  # the order in which threads add up decides the last bits
            "train.size": 96,
            "train.train_size": 64,
            "train.epochs": 1,
            "clean.folds": 2,
            "clean.auto": "flag",
        }
    )


def expect(project: Project, *command: str, **environment: str) -> str:
    """Run a command in the project, expect it to succeed; what it printed."""
    done = project.run(*command, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clone(origin: Project, path: Path) -> Project:
    """A second checkout of a project in git, without its data."""
    subprocess.run(["git", "clone", "-q", str(origin.path), str(path)], check=True)
    project = Project.__new__(Project)
    project.path = path
    return project


def lock(project: Project) -> str:
    return (project.path / "dvc.lock").read_text()


STAGES = [
    "gather",
    "verify",
    "split",
    "baseline",
    "lr_find",
    "lr",
    "show_batch",
    "train",
    "interpret",
    "clean",
    "retrain",
    "evaluate",
    "export",
]
