"""`pawprint changes BASE [HEAD]`: what changed between two commits, as Markdown for a pull request.

Prints one comment: errors, params (`dvc params diff`), metrics (`dvc metrics diff`), the confusion
matrices and the top losses of both commits. Nothing runs and nothing is checked out: metrics and
matrices are in git; data/predictions.csv comes from DVC's cache or its remote. What cannot be had
is one line in the comment. docs/pull_requests.md says how CI posts it.

It needs dvc, numpy, pandas and pydantic, but no torch, so a CI job installs it in seconds.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from pawprint.commands.changes_markdown import Side, comment
from pawprint.params import StageError
from pawprint.tables import parse_rows, write_bytes

PICTURES = ("confusion", "top_losses")  # plots/NAME.png
METRICS = ("evaluate", "export")  # metrics/NAME.json that the table of errors is made from
MATRICES = ("confusion", "test_confusion")  # metrics/NAME.csv


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pawprint changes`."""
    parser.add_argument("base", help="the commit, branch or tag to compare with")
    parser.add_argument("head", nargs="?", default="HEAD", help="the other one; default: HEAD")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="also write the plots of both commits there, and show them in the comment: for CML",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the comment. Exits with one line if the commits or the project are not there."""
    if not Path("dvc.yaml").is_file():
        sys.exit(
            "pawprint: there is no dvc.yaml here; run `pawprint changes` in the project's folder"
        )
    base, head = (commit_of(name) for name in (arguments.base, arguments.head))
    sides = (read_side(base), read_side(head))
    params, metrics = (diff(kind, base, head) for kind in ("params", "metrics"))
    pictures = write_pictures(arguments.pictures, sides) if arguments.pictures else []
    print(comment(sides, params, metrics, pictures))


def commit_of(name: str) -> str:
    """Return the full hash of a commit. Exits with one line if git does not know it."""
    done = git("rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
    if done.returncode:
        reason = " ".join(done.stderr.decode(errors="replace").split())
        sys.exit(
            f"pawprint: git knows no commit {name!r}{reason and f' ({reason})'}; "
            "fetch it with `git fetch`, or in CI the whole history (fetch-depth: 0)"
        )
    return done.stdout.decode().strip()


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git and wait for it. Exits with one line if there is no git."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True)
    except FileNotFoundError:
        sys.exit("pawprint: git is not installed; `pawprint changes` compares its commits")


def read_side(commit: str) -> Side:
    """Return what a commit holds for the comment; what is missing or damaged is left out."""
    metrics = {name: read_metrics(commit, f"metrics/{name}.json") for name in METRICS}
    matrices = {}
    for name in MATRICES:
        content = git("show", f"{commit}:./metrics/{name}.csv")
        table = parse(content.stdout, ("actual", "predicted"))
        if table is not None:
            matrices[name] = table
    answers, why = read_output(commit, "data/predictions.csv")
    needed = ("path", "label", "split", "prediction", "probability", "loss")
    return Side(commit, metrics, matrices, parse(answers, needed), why)


def read_metrics(commit: str, path: str) -> dict[str, Any]:
    """Return a file of metrics at a commit, empty if it is missing or damaged."""
    done = git("show", f"{commit}:./{path}")
    try:
        content = {} if done.returncode else json.loads(done.stdout)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def parse(content: bytes | None, columns: tuple[str, ...]) -> pd.DataFrame | None:
    """Return a CSV as text; None if there is none, it is damaged, or it has not these columns."""
    try:
        table = parse_rows(content or b"", "a table")
    except StageError:
        return None
    frame = pd.DataFrame(table.rows, columns=table.header, dtype=str)
    return frame if set(columns) <= set(frame) else None


def read_output(commit: str, path: str) -> tuple[bytes | None, str]:
    """Return an output of the pipeline at a commit, from DVC's cache or remote; or None and why."""
    import dvc.api  # here: it takes as long to import as most commands to run

    try:
        return dvc.api.read(path, repo=".", rev=commit, mode="rb"), ""
    except Exception as error:  # a remote's library raises errors of its own
        return None, " ".join(str(error).split())


def diff(kind: str, base: str, head: str) -> dict[str, dict[str, Any]] | str:
    """Return what `dvc params diff` or `dvc metrics diff` finds: {file: {key: {old, new}}}.

    A text says why DVC cannot tell.
    """
    command = [sys.executable, "-m", "dvc", kind, "diff", base, head, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return " ".join((done.stderr or done.stdout).split())


def write_pictures(folder: Path, sides: tuple[Side, Side]) -> list[tuple[str, list[Path]]]:
    """Write the plots of both commits to a folder; return (name, paths), for those that exist."""
    written = []
    for name in PICTURES:
        paths = []
        for side in sides:
            content, _ = read_output(side.commit, f"plots/{name}.png")
            if content is not None:
                path = folder / f"{side.short}-{name}.png"
                write_bytes(path, content)
                paths.append(path)
        written.append((name, paths))
    return written
