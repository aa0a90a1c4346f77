"""`pawprint compare`: which architecture is best on your own pictures? Error against speed.

Each architecture runs from split to export as a DVC experiment of its own, with everything else as
params.yaml says, in a temporary folder: yours stays as it is. `dvc exp apply compare-ARCH` then
takes the one you choose. After Howard's notebook "Which image models are best?", which plots timm's
ImageNet figures.

All architectures are judged on the same pictures: the errors are those of the model trained on the
table as gathered, because cleaning takes out other pictures for each. Choose by the valid split;
the test split is for saying how good the choice is, once.
"""

import argparse
import csv
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pawprint.judging.errors import describe_error

OUT = Path("compare")
ROUNDS, CALLS = 5, 10  # in each round a model is asked so often; the median of all counts
NUMBERS = {"F64", "F32", "F16", "BF16"}  # the types of safetensors that hold parameters
READABLE = ("error_rate", "low", "high", "pictures")  # of an error, as columns of the table


@dataclass(frozen=True)
class Compared:
    """One architecture.

    seconds: that the exported model takes for one picture, decoded and of the right size, on this
    machine. valid, test: errors as `pawprint.judging.errors.error_rate` gives them.
    """

    arch: str
    family: str
    parameters: int
    seconds: float
    valid: dict[str, float]
    test: dict[str, float]

    def cells(self) -> dict[str, object]:
        """Return the row as columns of a table."""
        cells: dict[str, object] = {
            "arch": self.arch,
            "family": self.family,
            "parameters": self.parameters,
            "seconds": f"{self.seconds:.6g}",
        }
        for split, error in (("valid", self.valid), ("test", self.test)):
            names = {key: f"{split}_{key.removesuffix('_rate')}" for key in READABLE}
            cells |= {name: f"{error[key]:.6g}" for key, name in names.items()}
        return cells


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pawprint compare`."""
    parser.add_argument("arch", nargs="+", help="names that timm knows, such as resnet18")


def run(arguments: argparse.Namespace) -> None:
    """Run one experiment per architecture, and write compare/: a CSV, a Markdown table, a plot.

    If an architecture failed, the exit code is 1, after the others are done and written.
    """
    refuse_unready()
    done, failed = [], 0
    for arch in dict.fromkeys(arguments.arch):
        reason = run_experiment(arch)
        if reason:
            failed += 1
            print(f"pawprint: {arch} is left out: {reason}", file=sys.stderr)
        else:
            done.append(arch)
    if done:
        rows = sorted(measure(done), key=lambda row: (row.valid["error_rate"], row.seconds))
        write_results(rows)
        print(markdown(rows))
        best = name_of(rows[0].arch)
        print(f"{OUT}/compare.csv, .md and .png; take one with: dvc exp apply {best}")
    sys.exit(1 if failed else 0)


def refuse_unready() -> None:
    """Exit with one line if experiments cannot start.

    They need a project, a commit, and pictures as params.yaml says.
    """
    if not Path("dvc.yaml").is_file() or not Path(".dvc").is_dir():
        sys.exit(
            "pawprint: there is no dvc.yaml here; run `pawprint compare` in the project's folder"
        )
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


def name_of(arch: str) -> str:
    """Return the name of an architecture's experiment; git allows few characters in it."""
    return "compare-" + re.sub(r"[^A-Za-z0-9_-]", "-", arch)


def run_experiment(arch: str) -> str:
    """Run what follows verify with this architecture; return why it failed, or "".

    Gather and verify do not run: the temporary folder holds what git and DVC's cache hold, not the
    pictures they began with.
    """
    name = name_of(arch)
    dvc("exp", "remove", "--quiet", name)
    process = subprocess.Popen(
        dvc_command(
            *("exp", "run", "--temp", "--name", name),
            *("--set-param", f"train.arch={arch}", "--downstream", "split"),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
        bufsize=0,
    )
    assert process.stdout is not None
    said = b""
    try:
        while chunk := os.read(process.stdout.fileno(), 1 << 16):
            sys.stderr.buffer.write(chunk)
            sys.stderr.flush()
            said = (said + chunk)[-50_000:]
    except KeyboardInterrupt:
        process.wait()  # the keyboard has stopped DVC too
        sys.exit("pawprint: stopped from the keyboard; no table is written")
    return explain_failure(said.decode("utf-8", "replace")) if process.wait() else ""


def explain_failure(said: str) -> str:
    """Return the line in what a failed experiment printed that says why.

    It is the failed stage's own line, if there is one, else DVC's.
    """
    lines = [line.strip() for line in said.replace("\r", "\n").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    errors = errors or lines or ["dvc ended without a word"]
    stage = re.search(r"python -m stages\.(\w+)", " ".join(errors))
    own = [line for line in lines if stage and line.startswith(f"{stage[1]}: ")]
    crash = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (own or crash or errors)[-1]


def measure(archs: list[str]) -> list[Compared]:
    """Read what the experiment of each architecture found, and time the exported models."""
    head = git("rev-parse", "HEAD").stdout.strip()
    refs = [f"refs/exps/{head[:2]}/{head[2:]}/{name_of(arch)}" for arch in archs]
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder, name_of(arch)) for arch in archs]
        for ref, home in zip(refs, folders, strict=True):
            fetch_model(ref, home)
        seconds = seconds_per_picture([home / "export" for home in folders])
        return [row_of(*each) for each in zip(archs, refs, folders, seconds, strict=True)]


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


def family_of(arch: str) -> str:
    """Return the family of an architecture: the first word of its name, without numbers.

    The lesson's notebook reads it off the name in the same way.
    """
    found = re.match(r"(?:tf_)?([a-z]+?(?:v2)?)(?=\d|_|\.|$)", arch)
    return found[1] if found else arch


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


def write_results(rows: list[Compared]) -> None:
    """Write compare/compare.csv, .md and .png."""
    OUT.mkdir(exist_ok=True)
    with (OUT / "compare.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0].cells()), lineterminator="\n")
        table.writeheader()
        table.writerows(row.cells() for row in rows)
    (OUT / "compare.md").write_text(markdown(rows), encoding="utf-8")
    plot(rows, OUT / "compare.png")


def markdown(rows: list[Compared]) -> str:
    """Return the table for people: best valid error first."""
    counts = f"{rows[0].valid['pictures']:.0f} valid and {rows[0].test['pictures']:.0f} test"
    lines = [
        "| architecture | error on valid (95 %) | error on test (95 %) | ms per picture "
        "| million parameters |",
        "|---|---|---|---|---|",
        *(
            f"| {row.arch} | {describe_error(row.valid)} | {describe_error(row.test)} "
            f"| {1000 * row.seconds:.1f} | {row.parameters / 1e6:.1f} |"
            for row in rows
        ),
        "",
        f"{counts} pictures, the same for all. Choose by valid; "
        "if intervals overlap, either architecture may be the better.",
        "",
    ]
    return "\n".join(lines)


def plot(rows: list[Compared], path: Path) -> None:
    """Plot error against speed, valid left and test right.

    An architecture is a dot, its family the colour, its parameters the area.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    families = sorted({row.family for row in rows})
    palette = matplotlib.colormaps["tab10" if len(families) <= 10 else "tab20"]
    colours = {family: palette(i % palette.N) for i, family in enumerate(families)}
    figure, axes = pyplot.subplots(
        1, 2, figsize=(11, 5), sharex=True, sharey=True, layout="constrained"
    )
    for axis, split in zip(axes, ("valid", "test"), strict=True):
        plot_split(axis, rows, split, colours)
    axes[0].set_title("valid: choose here")
    axes[1].set_title("test: what the choice is worth")
    axes[0].set_ylabel("error, %, with 95 % interval")
    axes[0].set_ylim(bottom=0)
    for family in families:
        axes[1].scatter([], [], color=colours[family], label=family)
    figure.legend(
        title="family; area: parameters", fontsize=8, title_fontsize=8, loc="outside right upper"
    )
    figure.savefig(path, dpi=130, metadata={"Software": None})
    pyplot.close(figure)


def plot_split(axis: Any, rows: list[Compared], split: str, colours: dict[str, Any]) -> None:
    """Plot the errors of one split into matplotlib's axes."""
    # at an angle, because dots with the same error lie close together
    words = {"rotation": 45, "rotation_mode": "anchor", "fontsize": 8}
    for row in rows:
        colour, at, found = colours[row.family], 1000 * row.seconds, getattr(row, split)
        error, low, high = (100 * found[key] for key in ("error_rate", "low", "high"))
        axis.plot([at, at], [low, high], color=colour, alpha=0.35, linewidth=1.5, zorder=1)
        look = {"edgecolors": "white", "zorder": 2, "clip_on": False}
        axis.scatter(at, error, 30 + 4 * row.parameters / 1e6, color=colour, **look)
        axis.annotate(row.arch, (at, error), (5, 5), textcoords="offset points", **words)
    if max(row.seconds for row in rows) > 5 * min(row.seconds for row in rows):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(
            lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""
        )
    axis.margins(x=0.25)
    axis.grid(alpha=0.25)
    axis.set_xlabel("milliseconds per picture, on this machine")


def environment() -> dict[str, str]:
    """Return the environment with this interpreter's own commands first on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path}


def dvc_command(*arguments: str) -> list[str]:
    """Return the command line of DVC with these arguments."""
    return [sys.executable, "-m", "dvc", *arguments]


def dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run DVC and wait for it."""
    return subprocess.run(
        dvc_command(*arguments), text=True, env=environment(), capture_output=True
    )


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git and wait for it. Exits with one line if there is no git."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit("pawprint: git is not installed; experiments need it")
