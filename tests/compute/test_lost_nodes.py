"""`dvc repro` of the whole chain on a Ray cluster that loses nodes while it works."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.cluster import Nodes, start_nodes
from tests.support.project import Project, clone, lock, warm_path

pytest.importorskip("ray.train", reason="the extra `ray` is not installed")

SECONDS = 900
# what a process of Ray calls itself while it works for a stage
TASKS = {
    "verify": "run_batch",
    "features": "run_batch",
    "train": "RayTrainWorker",
    "retrain": "RayTrainWorker",
}


def repro(project: Project, nodes: Nodes, killed: list[str]) -> tuple[int, str]:
    """Run `dvc repro`; in each of TASKS, kill the node that works and add another.

    In retrain all are killed. killed: the stages in which that is done already. Return DVC's exit
    code, and what it and the stages printed.
    """
    printed = project.path.parent / "printed.txt"
    with printed.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=project.path,
            env={**os.environ, "PATH": warm_path()},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    end = time.monotonic() + SECONDS
    try:
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
            stages = re.findall(r"Running stage '(\w+)'", printed.read_text())
            stage = stages[-1] if stages else ""
            if stage in killed or stage not in TASKS or not has_begun(project, stage):
                continue
            if nodes.kill_with(TASKS[stage]):
                killed.append(stage)
                if stage == "retrain":
                    nodes.kill()
                else:
                    nodes.refill()
    finally:
        process.kill()
    return process.wait(), printed.read_text()


def has_begun(project: Project, stage: str) -> bool:
    """Whether a training has written a checkpoint; True for other stages."""
    return "train" not in stage or any((project.path / "models").glob(".*.checkpoint"))


@pytest.mark.slow
def test_a_chain_that_loses_nodes_ends_with_the_bytes_of_one_machine(
    origin: Project, tmp_path: Path
):
    """If none is left, it ends in one line, and the rerun goes on from there."""
    project = clone(origin, tmp_path / "project")
    killed: list[str] = []
    with start_nodes() as nodes:
        project.edit(
            **{
                "compute.engine": "ray",
                "compute.address": nodes.address,
                "compute.workers": 1,  # two add up in another order than one machine
            }
        )
        code, said = repro(project, nodes, killed)
        assert killed == list(TASKS), said
        assert code != 0, said
        assert "train: going on after epoch" in said
        assert re.search(
            r"^train: the cluster at \S+ has no worker left to train on; add a node, then rerun: "
            "it goes on from the last checkpoint$",
            said,
            re.MULTILINE,
        )
        assert "Traceback" not in said
        nodes.refill()
        code, said = repro(project, nodes, killed)
        assert code == 0, said
        assert "train: going on after epoch" in said
    assert lock(project) == lock(origin)
