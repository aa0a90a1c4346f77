"""Train on quiet cores and beside a busy process, by how long threads spin before they sleep.

    python -m benchmarks.busy FOLDER                   # FOLDER: photos, one folder per class
    python -m benchmarks.busy                          # on the drawn sample instead
    python -m benchmarks.busy FOLDER --repeats 3 --spins default ours passive

Every setting trains alone and then beside a process that does nothing but compute, in turn, so that
a machine which slows down slows all of them. Ratios are to `default` alone, which is GNU OpenMP's
own 300,000 spins; `ours` is what pawprint/__init__.py sets. The last column says whether the model
is the same to the last bit. Nothing else should run on the machine.
"""

import argparse
import hashlib
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.project import ProjectCopy
from benchmarks.scale import Figures, run
from benchmarks.train import make_project
from pawprint import OWN_SETTINGS, SPINS

SETTINGS = {
    "default": {"GOMP_SPINCOUNT": "300000"},
    "10000": {"GOMP_SPINCOUNT": "10000"},
    "ours": {"GOMP_SPINCOUNT": str(SPINS)},
    "100": {"GOMP_SPINCOUNT": "100"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
TRAIN = "python -m stages.train --table data/split.csv --model models/first.safetensors"
TRAIN += " --metrics metrics/train"
BESIDE = ("alone", "busy")


def main() -> None:
    """Train with every setting, and print a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--spins", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--params", nargs="*", default=[], metavar="KEY=VALUE", help="epochs=1 …")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = prepare(Path(temporary) / "project", arguments.folder)
        for change in arguments.params:
            key, value = change.split("=")
            project.edit(**{f"train.{key}": int(value)})
        runs: dict[tuple[str, str], list[Figures]] = {}
        hashes: dict[str, set[str]] = {name: set() for name in arguments.spins}
        for _ in range(arguments.repeats):
            for name in arguments.spins:
                for beside in BESIDE:
                    figures = train(project, name, beside == "busy")
                    runs.setdefault((name, beside), []).append(figures)
                    model = project.path / "models/first.safetensors"
                    hashes[name].add(hashlib.sha256(model.read_bytes()).hexdigest())
                    print(name, beside, figures, file=sys.stderr, flush=True)
    print(table(runs, hashes))


def prepare(path: Path, folder: Path | None) -> ProjectCopy:
    """Return a project that is ready to train on a folder of photos, or on the sample."""
    if folder:
        project = make_project(path, folder.resolve())
    else:
        project = ProjectCopy(path)
        for stage in ("gather", "verify", "split"):
            project.stage(stage)
        (path / "metrics/lr_find.json").write_text('{"valley": null}')
        project.stage("lr")
    project.stage("features")
    return project


def train(project: ProjectCopy, name: str, busy: bool) -> Figures:
    """Return the seconds and CPU seconds of a training with a setting, beside a busy process."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        words = [f"{key}={value}" for key, value in SETTINGS[name].items()]
        unset = [word for each in (*OWN_SETTINGS, "OMP_NUM_THREADS") for word in ("-u", each)]
        return run("env", *unset, *words, *shlex.split(TRAIN), cwd=project.path)
    finally:
        if process:
            process.kill()
            process.wait()


def table(runs: dict[tuple[str, str], list[Figures]], hashes: dict[str, set[str]]) -> str:
    """Return the medians and their ratios as a Markdown table."""
    names = list(hashes)
    seconds = {key: statistics.median(each["seconds"] for each in of) for key, of in runs.items()}
    cpu = {key: statistics.median(each["cpu"] for each in of) for key, of in runs.items()}
    first = seconds[names[0], "alone"]
    lines = [
        "| spins | alone, s | CPU s | beside a busy process, s | CPU s | ratios | same model |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        figures = [f"{of[name, beside]:.1f}" for beside in BESIDE for of in (seconds, cpu)]
        ratios = " and ".join(f"{seconds[name, beside] / first:.2f}" for beside in BESIDE)
        same = "yes" if hashes[name] == hashes[names[0]] and len(hashes[name]) == 1 else "no"
        lines.append(f"| {name} | {' | '.join(figures)} | {ratios} | {same} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
