"""Measure `dvc repro`: the whole chain on a folder of photos, and again with another learning rate.

    python -m benchmarks.chain FOLDER                     # FOLDER: one folder per class
    python -m benchmarks.chain FOLDER --against COMMIT    # an older commit too, in the same run

Every stage's seconds are those between DVC's lines that it starts and that the next one does, so
they hold Python's start, all imports, and DVC's hashing. `imports` are the seconds that
`python -X importtime` counts for the stage's script in a process of its own: run it to see of what.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.project import ROOT, ProjectCopy, edit_yaml
from pawprint.params import load_yaml

FACTOR = 1.5  # from one learning rate to the other

Seconds = dict[str, float]


def main() -> None:
    """Run the chain of each commit, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--against", metavar="COMMIT", help="an older commit")
    arguments = parser.parse_args()
    columns: dict[str, Seconds] = {}
    with tempfile.TemporaryDirectory() as temporary:
        trees = {"this": Path(temporary) / "this"}
        ProjectCopy(trees["this"])
        if arguments.against:
            trees[arguments.against] = Path(temporary) / "older"
            check_out(arguments.against, trees[arguments.against])
        for name, tree in trees.items():
            run(tree, "dvc", "init", "--no-scm", "--force", "--quiet")  # a commit has one already
            source = {"gather.source": "folder", "gather.path": str(arguments.folder.resolve())}
            edit_yaml(tree / "params.yaml", **source)
            columns[f"{name}, all"] = repro(tree)
            lr = load_yaml(tree / "params.yaml")["train"]["lr"]
            edit_yaml(tree / "params.yaml", **{"train.lr": lr * FACTOR})
            columns[f"{name}, train.lr changed"] = repro(tree)
        stages = list(load_yaml(trees["this"] / "dvc.yaml")["stages"])
        columns["imports"] = {stage: import_seconds(trees["this"], stage) for stage in stages}
    print(table(columns))


def check_out(commit: str, tree: Path) -> None:
    """Write the files of a commit into a folder."""
    tree.mkdir()
    command = ["git", "archive", "--format=tar", commit]
    packed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", tree], input=packed, check=True)


def run(tree: Path, *command: str) -> None:
    """Run a command in a tree; exit with its messages if it fails."""
    done = subprocess.run(command, cwd=tree, env=environment(tree), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def environment(tree: Path) -> dict[str, str]:
    """Return the environment in which Python imports a tree's own code."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(tree)}


def repro(tree: Path) -> Seconds:
    """Run `dvc repro`; return the seconds of every stage that ran, and of all."""
    seconds: Seconds = {}
    stage, since = None, time.perf_counter()
    began = since
    with subprocess.Popen(
        ["dvc", "repro"],
        cwd=tree,
        env=environment(tree),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            now = time.perf_counter()
            if found := re.match(r"Running stage '(\w+)'", line):
                if stage:
                    seconds[stage] = now - since
                stage, since = found[1], now
    end = time.perf_counter()
    if process.returncode:
        sys.exit(f"dvc repro failed:\n{''.join(lines[-20:])}")
    if stage:
        seconds[stage] = end - since
    print(f"{tree.name}: {end - began:.1f} s", file=sys.stderr)
    return {**seconds, "all": end - began}


def import_seconds(tree: Path, stage: str) -> float:
    """Return the seconds of importing what a stage imports."""
    cmd = load_yaml(tree / "dvc.yaml")["stages"][stage]["cmd"]
    (module,) = re.findall(r"-m (stages\.\w+)", cmd)
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    done = subprocess.run(
        command, cwd=tree, env=environment(tree), capture_output=True, text=True, check=True
    )
    (found,) = re.findall(rf"\| +(\d+) \| +{re.escape(module)}$", done.stderr, re.MULTILINE)
    return int(found) / 1e6


def table(columns: dict[str, Seconds]) -> str:
    """Return the seconds as a Markdown table, a row per stage."""
    rows = list(dict.fromkeys(stage for column in columns.values() for stage in column))
    rows = [row for row in rows if row != "all"] + ["all"]
    lines = [f"| stage | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        cells = [f"{column[row]:.1f}" if row in column else "" for column in columns.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
