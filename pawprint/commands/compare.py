"""`pawprint compare`: which architecture is best on your own pictures? Error against speed, as a table and a plot.

Each architecture runs from split to export as a DVC experiment of its own, with all else as params.yaml says, in
a temporary folder: yours stays as it is. `dvc exp apply compare-ARCH` then takes the one you choose.
After Howard's notebook "Which image models are best?", which plots timm's ImageNet figures.

All architectures are judged on the same pictures: the errors are those of the model trained on the table as gathered,
because cleaning takes out other pictures for each. Choose by the valid split; the test split is for saying how good
the choice is, once.
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
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from pawprint.judging.errors import wilson

OUT = Path("compare")
ROUNDS, CALLS = 5, 10  # a model is asked in each round so often, and the median of all counts
MATHS = {"F64", "F32", "F16", "BF16"}  # the types of safetensors that hold parameters


@dataclass(frozen=True)
class Row:
    """One architecture. seconds: of the exported model for one picture, decoded and of the right size, on this machine;
    errors with Wilson's 95 % interval (Wilson, JASA 22, 1927)."""

    arch: str
    family: str
    parameters: int
    seconds: float
    valid_error: float
    valid_low: float
    valid_high: float
    valid_pictures: int
    test_error: float
    test_low: float
    test_high: float
    test_pictures: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pawprint compare`."""
    parser.add_argument("arch", nargs="+", help="names that timm knows, such as resnet18")


def run(arguments: argparse.Namespace) -> None:
    """Run an experiment an architecture, and write compare/: a table as CSV and Markdown, and a plot.

    Exit code 1, after the others are done and written, where an architecture failed.
    """
    refuse_unready()
    done, failed = [], 0
    for arch in dict.fromkeys(arguments.arch):
        why = experiment(arch)
        if why:
            failed += 1
            print(f"pawprint: {arch} is left out: {why}", file=sys.stderr)
        else:
            done.append(arch)
    if done:
        rows = sorted(measure(done), key=lambda row: (row.valid_error, row.seconds))
        write(rows)
        print(markdown(rows))
        print(
            f"{OUT}/compare.csv, .md and .png; take one with: dvc exp apply {name_of(rows[0].arch)}"
        )
    sys.exit(1 if failed else 0)


def refuse_unready() -> None:
    """Exit with one line where experiments cannot start: no project, no commit, or pictures not as params.yaml says."""
    if not Path("dvc.yaml").is_file() or not Path(".dvc").is_dir():
        sys.exit(
            "pawprint: there is no dvc.yaml here; run `pawprint compare` in the project's folder"
        )
    if git("rev-parse", "--verify", "--quiet", "HEAD").returncode:
        sys.exit(
            "pawprint: experiments start from a commit; make one with: git add -A && git commit -m begin"
        )
    if dvc("status", "--quiet", "gather", "verify", capture_output=True).returncode:
        sys.exit(
            "pawprint: data/images is not what params.yaml and the source say; run first: dvc repro split"
        )


def name_of(arch: str) -> str:
    """The name of an architecture's experiment; git allows few characters in it."""
    return "compare-" + re.sub(r"[^A-Za-z0-9_-]", "-", arch)


def experiment(arch: str) -> str:
    """Run what follows verify with this architecture; why it failed, or "".

    Not gather and verify: the temporary folder holds what git and DVC's cache hold, not the pictures they began with.
    """
    name = name_of(arch)
    dvc("exp", "remove", "--quiet", name, capture_output=True)
    command = [
        "exp",
        "run",
        "--temp",
        "--name",
        name,
        "--set-param",
        f"train.arch={arch}",
        "--downstream",
        "split",
    ]
    process = subprocess.Popen(
        dvc_command(*command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
        bufsize=0,
    )
    said = b""
    try:
        while chunk := os.read(process.stdout.fileno(), 1 << 16):  # type: ignore[union-attr]
            sys.stderr.buffer.write(chunk)
            sys.stderr.flush()
            said = (said + chunk)[-50_000:]
    except KeyboardInterrupt:
        process.wait()  # the keyboard has stopped DVC too
        sys.exit("pawprint: stopped from the keyboard; no table is written")
    return explain(said.decode("utf-8", "replace")) if process.wait() else ""


def explain(said: str) -> str:
    """The line in what a failed experiment printed that tells why: the failed stage's own word, else DVC's."""
    lines = [line.strip() for line in said.replace("\r", "\n").splitlines() if line.strip()]
    errors = (
        [line for line in lines if line.startswith("ERROR")]
        or lines
        or ["dvc ended without a word"]
    )
    stage = re.search(r"python -m stages\.(\w+)", " ".join(errors))
    own = [line for line in lines if stage and line.startswith(f"{stage[1]}: ")]
    crash = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (own or crash or errors)[-1]


def measure(archs: list[str]) -> list[Row]:
    """Read what the experiment of each architecture found, and time the exported models."""
    head = git("rev-parse", "HEAD").stdout.strip()
    refs = [f"refs/exps/{head[:2]}/{head[2:]}/{name_of(arch)}" for arch in archs]
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder, name_of(arch)) for arch in archs]
        for ref, home in zip(refs, folders, strict=True):
            fetch(ref, home)
        seconds = seconds_a_picture([home / "export" for home in folders])
        return [row_of(*each) for each in zip(archs, refs, folders, seconds, strict=True)]


def fetch(ref: str, folder: Path) -> None:
    """Put the exported model of an experiment and its weights, out of DVC's cache, into a new folder of its name."""
    folder.mkdir()
    for path in ("export", "models/first.safetensors"):
        got = dvc(
            "get",
            ".",
            path,
            "--rev",
            ref,
            "--out",
            str(folder / Path(path).name),
            capture_output=True,
        )
        if got.returncode:
            sys.exit(
                f"pawprint: {path} of {folder.name} is not to be had: {got.stderr.strip()[-200:]}"
            )


def row_of(arch: str, ref: str, folder: Path, seconds: float) -> Row:
    """What the experiment at `ref` found, and how large its model in `folder` is."""
    train, judged = (
        json.loads(git("show", f"{ref}:./metrics/{name}.json").stdout)
        for name in ("train", "evaluate")
    )
    pictures = train["valid_pictures"]
    low, high = wilson(round(train["error_rate"] * pictures), pictures)
    test = judged["as_gathered"]["first"]
    return Row(
        arch=arch,
        family=family_of(arch),
        parameters=count_parameters(folder / "first.safetensors"),
        seconds=seconds,
        valid_error=train["error_rate"],
        valid_low=low,
        valid_high=high,
        valid_pictures=pictures,
        test_error=test["error_rate"],
        test_low=test["low"],
        test_high=test["high"],
        test_pictures=test["pictures"],
    )


def family_of(arch: str) -> str:
    """The family of an architecture, as the lesson's notebook reads it off the name: its first word without numbers."""
    found = re.match(r"(?:tf_)?([a-z]+?(?:v2)?)(?=\d|_|\.|$)", arch)
    return found[1] if found else arch


def count_parameters(path: Path) -> int:
    """The learnt numbers in a safetensors file, read off its header; batch-norm's running averages do not count."""
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return sum(
        int(np.prod(tensor["shape"]))
        for name, tensor in header.items()
        if name != "__metadata__" and tensor["dtype"] in MATHS and ".running_" not in f".{name}"
    )


def seconds_a_picture(exports: list[Path]) -> list[float]:
    """The median time of each exported model for one picture, a picture at a time.

    They take turns, so that what else the machine does meets all of them; the first calls of a turn do not count.
    Each is loaded anew for its turn: a list of large models need not fit in memory together.
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


def write(rows: list[Row]) -> None:
    """Write compare/compare.csv, .md and .png."""
    OUT.mkdir(exist_ok=True)
    with (OUT / "compare.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
            )
    (OUT / "compare.md").write_text(markdown(rows), encoding="utf-8")
    plot(rows, OUT / "compare.png")


def markdown(rows: list[Row]) -> str:
    """The table for people: best valid error first."""
    pictures = f"{rows[0].valid_pictures} valid and {rows[0].test_pictures} test pictures"
    lines = [
        "| architecture | error on valid (95 %) | error on test (95 %) | ms an image | million parameters |",
        "|---|---|---|---|---|",
        *(
            f"| {row.arch} | {percent(row.valid_error, row.valid_low, row.valid_high)} "
            f"| {percent(row.test_error, row.test_low, row.test_high)} "
            f"| {1000 * row.seconds:.1f} | {row.parameters / 1e6:.1f} |"
            for row in rows
        ),
    ]
    note = f"{pictures}, the same for all. Choose by valid; intervals that overlap say that either may be the better."
    return "\n".join([*lines, "", note, ""])


def percent(error: float, low: float, high: float) -> str:
    return f"{100 * error:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def plot(rows: list[Row], path: Path) -> None:
    """Speed against error, valid left and test right: a dot an architecture, its family by colour."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    families = sorted({row.family for row in rows})
    palette = pyplot.get_cmap("tab10" if len(families) <= 10 else "tab20").colors
    colours = {family: palette[i % len(palette)] for i, family in enumerate(families)}
    figure, axes = pyplot.subplots(
        1, 2, figsize=(11, 5), sharex=True, sharey=True, layout="constrained"
    )
    for axis, split in zip(axes, ("valid", "test"), strict=True):
        for row in rows:
            error, low, high = (
                100 * getattr(row, f"{split}_{name}") for name in ("error", "low", "high")
            )
            at = 1000 * row.seconds
            axis.plot(
                [at, at],
                [low, high],
                color=colours[row.family],
                alpha=0.35,
                linewidth=1.5,
                zorder=1,
            )
            area = 30 + 4 * row.parameters / 1e6
            axis.scatter(
                at,
                error,
                area,
                color=colours[row.family],
                edgecolors="white",
                zorder=2,
                clip_on=False,
            )
            words = {
                "rotation": 45,
                "rotation_mode": "anchor",
                "fontsize": 8,
            }  # dots of the same error stand close
            axis.annotate(row.arch, (at, error), (5, 5), textcoords="offset points", **words)
        if max(row.seconds for row in rows) > 5 * min(row.seconds for row in rows):
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.xaxis.set_minor_formatter(
                lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""
            )
        axis.margins(x=0.25)
        axis.grid(alpha=0.25)
        axis.set_xlabel("milliseconds an image, on this machine")
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


def environment() -> dict[str, str]:
    """The environment with this interpreter's own commands first on the PATH, for the stages."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def dvc_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def dvc(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(dvc_command(*arguments), text=True, env=environment(), **options)  # type: ignore[call-overload]


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True)
