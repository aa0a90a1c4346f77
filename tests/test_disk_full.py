"""The disk fills up: one clear line, and with room again the run ends the same.

The project is on a small tmpfs. Before a stage starts, it is filled up to a given number of bytes.
Under DVC a `python` that comes first on the PATH does so, and then becomes the real one: DVC itself
starts in peace, and the stage meets the end of the disk in the middle of its work.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pawprint.params import load_yaml
from tests.support.project import ROOT, STAGES, Project, clone, expect, lock, warm_path
from tests.support.warm import run_stages, warm_python
from tests.support.world import Server, World, picture, tar

MEGABYTES = 400
PIPELINE = load_yaml(ROOT / "dvc.yaml")["stages"]
PAGE = 4096  # what a tmpfs takes for the smallest file
PYTHON = """#!/bin/sh
free=$(($(stat -f -c '%a * %S' "$DISK")))
head -c $((free > ROOM ? free - ROOM : 0)) /dev/zero > "$DISK/filler"
exec {python} "$@"
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small disk of its own."""
    path = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(path)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command to make a small disk with")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture(scope="module")
def pulled(origin: Project, disk: Path) -> Project:
    """A clone on the small disk with all its data."""
    project = clone(origin, disk / "project")
    expect(project, "dvc", "pull")
    return project


def run_on_full_disk(
    project: Project, disk: Path, tools: Path, room: int, *command: str
) -> subprocess.CompletedProcess:
    """Run a DVC command whose stages find `room` bytes free; afterwards the room is there again."""
    shim = tools / "python"
    shim.write_text(PYTHON.format(python=warm_python() / "python"))
    shim.chmod(0o755)
    path = f"{tools}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "DISK": str(disk),
        "ROOM": str(room),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = (sys.executable, "-m", "dvc", *command)
    try:
        return subprocess.run(
            command, cwd=project.path, env=environment, capture_output=True, text=True
        )
    finally:
        (disk / "filler").unlink(missing_ok=True)


def outs(project: Project, stage: str) -> dict[Path, bytes]:
    """The files that a stage declares, with their content."""
    from ruamel.yaml import YAML

    declared = YAML(typ="safe").load(project.path / "dvc.lock")["stages"][stage]["outs"]
    paths = [project.path / out["path"] for out in declared]
    files = [
        file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))
    ]
    return {file: file.read_bytes() for file in files if file.is_file()}


def fill(disk: Path, room: int) -> None:
    """Leave so many bytes free on the disk."""
    now = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, now.f_bavail * now.f_bsize - room)


def half_of(files: dict[Path, bytes]) -> int:
    """The room for half of these files, in whole pages."""
    return sum(-(-len(content) // PAGE) for content in files.values()) // 2 * PAGE


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_fills_the_disk_says_so_and_harms_no_other(
    pulled: Project, disk: Path, stage: str
):
    """Room for half of what the stage writes; with more it writes what it wrote before."""
    own = outs(pulled, stage)
    others = {
        file: content
        for name in STAGES
        if name != stage
        for file, content in outs(pulled, name).items()
    }
    command = PIPELINE[stage]["cmd"].removeprefix("python -m stages.").split()
    for file in own:
        file.unlink()
    fill(disk, half_of(own))
    try:
        done = run_stages(pulled.path, command)
    finally:
        (disk / "filler").unlink()
    assert done.returncode == 1, "the disk was not full"
    said = done.stderr.replace("\r", "\n").splitlines()
    lines = [line for line in said if "No space left on device" in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{command[0]}: No space left on device: ")
    assert lines[0].endswith("make room or access, then rerun")
    assert "the working folder" not in lines[0]
    assert "Traceback" not in done.stderr
    assert [str(file) for file, content in others.items() if file.read_bytes() != content] == []
    pulled.stage(*command)
    assert [str(file) for file, content in own.items() if file.read_bytes() != content] == []
    assert expect(pulled, "git", "status", "--porcelain") == ""
    assert list(pulled.path.rglob("*.partial")) == []


@pytest.mark.slow
def test_a_full_disk_ends_dvc_repro_with_the_stage_and_the_next_run_ends_the_same(
    origin: Project, pulled: Project, disk: Path, tmp_path: Path
):
    own = outs(pulled, "clean")
    for file in own:
        file.unlink()
    command = ("repro", "--force", "--single-item", "clean")
    done = run_on_full_disk(pulled, disk, tmp_path, half_of(own), *command)
    assert done.returncode != 0, "the disk was not full"
    assert "clean: No space left on device: " in done.stderr
    assert "python -m stages.clean" in done.stderr.splitlines()[-1]
    assert "exited with 1" in done.stderr.splitlines()[-1]
    expect(pulled, "dvc", "repro", PATH=warm_path())
    assert lock(pulled) == lock(origin)
    assert expect(pulled, "git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_a_cache_that_is_full_after_the_stage_ends_the_same_later(
    origin: Project, pulled: Project, disk: Path, tmp_path: Path
):
    """The stage finds room for its model, DVC none for its copy of it."""
    pulled.edit(**{"train.lr": 0.0031})
    expect(pulled, "dvc", "repro", "lr", PATH=warm_path())
    own = sum(len(content) for content in outs(pulled, "train").values())
    done = run_on_full_disk(pulled, disk, tmp_path, own + 16 * PAGE, "repro", "train")
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    expect(pulled, "dvc", "repro", "train", PATH=warm_path())
    before = outs(pulled, "train")
    expect(pulled, "dvc", "repro", "--force", "--single-item", "train", PATH=warm_path())
    assert outs(pulled, "train") == before
    expect(pulled, "git", "checkout", "-q", ".")
    expect(pulled, "dvc", "checkout")
    assert "up to date" in expect(pulled, "dvc", "status")


@pytest.mark.parametrize("kind", ["urls", "archive"])
def test_a_download_that_fills_the_disk_says_so_and_goes_on_later(
    disk: Path, tmp_path: Path, kind: str
):
    pictures = {
        f"{label}/{i}.jpg": picture(100 * n + i) for n, label in enumerate("ab") for i in range(20)
    }
    packed = tar(tmp_path / "x.tgz", pictures).read_bytes()
    with Server(
        {f"/{name}": content for name, content in pictures.items()} | {"/x.tgz": packed}
    ) as server:

        def world(path: Path) -> World:
            made = World(path)
            made.use(
                {"kind": "archive", "archive": f"{server.base}/x.tgz"}
                if kind == "archive"
                else {"kind": "urls"}
            )
            for label in "ab":
                lines = [f"{server.base}/{name}" for name in pictures if name.startswith(label)]
                made.write(f"data/own/{label}.txt", "\n".join(lines))
            return made

        full, free = world(disk / kind), world(tmp_path / "free")
        free.run()
        fill(disk, 20 * PAGE)
        line = full.fail()
        assert "No space left on device: " in line
        assert line.endswith("make room or access, then rerun")
        (disk / "filler").unlink()
        full.run()
        assert full.files() == free.files()
