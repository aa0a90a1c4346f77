"""`pawprint compare`: which architecture is best on your own pictures? Error against speed.

Each architecture runs from split and features to export as a DVC experiment of its own, with
everything else as params.yaml says, in a temporary folder: yours stays as it is. `dvc exp apply
compare-ARCH` then takes the one you choose. After Howard's notebook "Which image models are best?",
which plots timm's ImageNet figures.

All architectures are judged on the same pictures: the errors are those of the model trained on the
table as gathered, because cleaning takes out other pictures for each. Choose by the valid split;
the test split is for saying how good the choice is, once.

`--seeds N` trains each N times, on the same splits: only `train.seed` differs. `--probe` trains
none: pawprint/commands/compare/probe.py. `--engine ray` runs the experiments side by side: the
features, the trainings and the answers of each on one worker of a Ray cluster at a time, the rest
here. So a table is the same in any order.
"""

import argparse
import json
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pawprint.commands.compare.runs import dvc, git, name_of, ref_of, run_experiments
from pawprint.commands.compare.table import (
    OUT,
    READABLE,
    Compared,
    family_of,
    markdown,
    over_seeds,
    write_results,
    write_seeds,
)
from pawprint.compute.choice import open_engine
from pawprint.compute.settings import EngineParams
from pawprint.params import StageError, check, load_yaml

FIRST_SEED = 42
ROUNDS, CALLS = 5, 10  # in each round a model is asked so often; the median of all counts
NUMBERS = {"F64", "F32", "F16", "BF16"}  # the types of safetensors that hold parameters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pawprint compare`."""
    parser.add_argument("arch", nargs="+", help="names that timm knows, such as resnet18")
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--probe",
        action="store_true",
        help="train nothing: rank by a cross-validated linear head on frozen features, in seconds",
    )
    way.add_argument(
        "--seeds",
        type=several,
        metavar="N",
        help=f"train each N times, with train.seed {FIRST_SEED}, {FIRST_SEED + 1}, …",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: side by side, each on a worker of the Ray cluster at compute.address",
    )
    parser.add_argument(
        "--random",
        action="store_true",
        help="with --probe: the first architecture with random weights too, as a control",
    )


def several(text: str) -> int:
    """Return the number of seeds. Raises ArgumentTypeError if it is below 2."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} should be a whole number from 2 on")
    return int(text)


def run(arguments: argparse.Namespace) -> None:
    """Run one experiment per architecture and seed, or probe them, and write the tables.

    If an architecture failed, the exit code is 1, after the others are done and written.
    """
    if arguments.random and not arguments.probe:
        sys.exit("pawprint: --random is a control for --probe; add --probe")
    if arguments.probe and arguments.engine == "ray":
        sys.exit("pawprint: --probe takes seconds on this machine; leave out --engine ray")
    archs = list(dict.fromkeys(arguments.arch))
    refuse_no_project()
    if arguments.probe:
        from pawprint.commands.compare.probe import probe  # here: it imports torch

        sys.exit(probe(archs, arguments.random))
    refuse_unready()
    on_cluster = arguments.engine == "ray"
    together = count_workers() if on_cluster else 1
    sys.exit(compare_trained(archs, arguments.seeds, together, on_cluster))


def count_workers() -> int:
    """Return how many workers the cluster has. Exits with one line if there is none."""
    path = Path("params.yaml")
    try:
        params = check(load_yaml(path).get("compute", {}), EngineParams, "compute", path)
        engine = open_engine(params, "ray")
        workers = engine.count_workers()
        if not workers:
            raise StageError("the cluster has no worker with a CPU; add a node")
    except StageError as error:
        sys.exit(f"pawprint: {error}")
    return workers


def compare_trained(
    archs: list[str], count: int | None, together: int = 1, on_cluster: bool = False
) -> int:
    """Train the architectures, once or with `count` seeds, and write compare/; the exit code.

    together: how many experiments run at a time.
    """
    seeds = [FIRST_SEED + i for i in range(count)] if count else [None]
    failed = run_experiments(archs, seeds, together, on_cluster)
    for arch, reason in failed.items():
        print(f"pawprint: {arch} is left out: {reason}", file=sys.stderr)
    done = [arch for arch in archs if arch not in failed]
    if done:
        runs = measure(done, seeds)
        rows = [over_seeds(own) if count else own[0] for own in runs]
        rows.sort(key=lambda row: (row.valid["error_rate"], row.seconds))
        write_results(rows)
        write_seeds(runs if count else [], FIRST_SEED)
        print(markdown(rows))
        best = name_of(rows[0].arch, seeds[0])
        print(f"{OUT}/compare.csv, .md and .png; take one with: dvc exp apply {best}")
    return int(len(done) < len(archs))


def refuse_no_project() -> None:
    """Exit with one line if this folder is not a project."""
    if not Path("dvc.yaml").is_file() or not Path(".dvc").is_dir():
        sys.exit(
            "pawprint: there is no dvc.yaml here; run `pawprint compare` in the project's folder"
        )


def refuse_unready() -> None:
    """Exit with one line if experiments cannot start.

    They need a commit, and pictures as params.yaml says.
    """
    if git("rev-parse", "--verify", "--quiet", "HEAD").returncode:
        sys.exit(
            "pawprint: experiments start from a commit; "
            "make one with: git add -A && git commit -m begin"
        )
    if dvc("status", "--quiet", "gather", "verify").returncode:
        sys.exit(
            "pawprint: data/images is not what params.yaml and the source say; "
            "run first: dvc repro split"
        )


def measure(archs: list[str], seeds: Sequence[int | None]) -> list[list[Compared]]:
    """Read what the experiments of each architecture found, and time the exported models.

    The models of an architecture's seeds are as fast as each other: that of the first is timed.
    """
    head = git("rev-parse", "HEAD").stdout.strip()
    refs = [[ref_of(head, name_of(arch, seed)) for seed in seeds] for arch in archs]
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder, name_of(arch, seeds[0])) for arch in archs]
        for own, home in zip(refs, folders, strict=True):
            fetch_model(own[0], home)
        seconds = seconds_per_picture([home / "export" for home in folders])
        return [
            [row_of(arch, ref, home, own_seconds) for ref in own]
            for arch, own, home, own_seconds in zip(archs, refs, folders, seconds, strict=True)
        ]


def fetch_model(ref: str, folder: Path) -> None:
    """Copy an experiment's exported model and its weights from DVC's cache to a new folder."""
    folder.mkdir()
    for path in ("export", "models/first.safetensors"):
        target = str(folder / Path(path).name)
        got = dvc("get", ".", path, "--rev", ref, "--out", target)
        if got.returncode:
            reason = " ".join(got.stderr.split())[-200:]
            sys.exit(f"pawprint: dvc cannot get {path} of {folder.name}: {reason}")


def row_of(arch: str, ref: str, folder: Path, seconds: float) -> Compared:
    """Return what the experiment at `ref` found, and how large its model in `folder` is."""
    try:
        train, judged = metrics_at(ref, "train"), metrics_at(ref, "evaluate")
        valid, test = train, judged["as_gathered"]["first"]
        return Compared(
            arch=arch,
            family=family_of(arch),
            parameters=count_parameters(folder / "first.safetensors"),
            seconds=seconds,
            valid={key: float(valid[key]) for key in READABLE},
            test={key: float(test[key]) for key in READABLE},
        )
    except (ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        sys.exit(f"pawprint: the metrics or the model of {name_of(arch)} are damaged ({reason})")


def metrics_at(ref: str, name: str) -> dict[str, Any]:
    """Return a file of metrics at a commit. Raises ValueError if it is not JSON."""
    return json.loads(git("show", f"{ref}:./metrics/{name}.json").stdout)


def count_parameters(path: Path) -> int:
    """Return how many parameters a safetensors file holds, from its header.

    Batch-norm's running averages do not count.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(min(length, path.stat().st_size)))
    return sum(
        int(np.prod(tensor["shape"]))
        for name, tensor in header.items()
        if name != "__metadata__" and tensor["dtype"] in NUMBERS and ".running_" not in f".{name}"
    )


def seconds_per_picture(exports: list[Path]) -> list[float]:
    """Return the median time of each exported model for one picture, one picture at a time.

    They take turns, so that what else the machine does meets all of them; the first calls of a
    turn do not count. Each is loaded for its turn alone: many large models need not fit in memory
    together.
    """
    from pawprint.commands.exported import load

    times: list[list[float]] = [[] for _ in exports]
    for _ in range(ROUNDS):
        for folder, own in zip(exports, times, strict=True):
            classifier = load(folder)
            size = classifier.config["size"]
            picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
            for call in range(CALLS // 2 + CALLS):
                begin = time.perf_counter()
                classifier.classify([picture])
                if call >= CALLS // 2:
                    own.append(time.perf_counter() - begin)
    return [float(np.median(own)) for own in times]
