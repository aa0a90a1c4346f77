"""Compare fastai's fine_tune(4) with our stage train on the same photos.

    python -m benchmarks.train FOLDER --fastai-python PYTHON   # FOLDER: one folder per class
    python -m benchmarks.train --scale 500 2000 8000           # ours alone, on drawn pictures

The comparison: both get the same verified pictures (data/images), the same split, the same
backbone weights (tf_efficientnet_lite0 from the installed package), the same seeds and the same
cores. Each runs in a process of its own, in turn. fastai is used as its book uses it (Howard and
Gugger, chapter 2): RandomResizedCrop(224, min_scale=0.5), aug_transforms(), 64 pictures per batch,
vision_learner, fine_tune(4). Ours is the stage train with params.yaml as it is.

fit: fastai decodes in every epoch, so its fine_tune contains all decoding. Ours is therefore
counted from the first picture decoded to the last epoch; the decoding is also given alone. Neither
counts imports.
error: of the valid and the test split together; neither is trained on. With `train.blend: auto`
valid chooses our blend, so half of our figure is a little too good.
memory: the highest resident set of the main process. fastai's loader processes come on top and are
not counted.
If other programs use the machine too, the ratio of CPU seconds is the steadier figure. --results
FILE keeps every run, so a benchmark that was stopped can go on.

--scale: one frozen and one full epoch of a tiny model (test_efficientnet, random weights) on drawn
JPEGs of 256 pixels a side, four in five to train on, one in five to validate on. What grows is
then not the model's.
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.project import ROOT, ProjectCopy

NAMES = ("fastai", "ours")
Figures = dict[str, float]


def main() -> None:
    """Compare on a folder of photos, or measure ours on drawn pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument(
        "--scale", type=int, nargs="+", metavar="COUNT", help="ours alone, on drawn pictures"
    )
    parser.add_argument(
        "--fastai-python", default=sys.executable, help="a Python with fastai and timm"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--results", type=Path, help="a JSON file of runs: read, and added to")
    arguments = parser.parse_args()
    if bool(arguments.folder) == bool(arguments.scale):
        parser.error("give either a folder of photos or --scale")
    if arguments.scale:
        scale(arguments)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """Run both with every seed, and print their means side by side."""
    version = fastai_version(arguments.fastai_python)
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "weights.safetensors"
        project = make_project(Path(temporary) / "project", arguments.folder.resolve())
        save_weights(weights)
        kept = arguments.results or Path(temporary) / "results.json"
        results: dict[str, dict[str, Figures]] = {name: {} for name in NAMES}
        if kept.exists():
            results = json.loads(kept.read_text())
        for seed in arguments.seeds:
            project.edit(**{"train.seed": seed})
            ours = [sys.executable, "-m", "benchmarks.ours_train"]
            theirs = [arguments.fastai_python, "-m", "benchmarks.fastai_train", seed, weights]
            for name, command in (("fastai", theirs), ("ours", ours)):
                if str(seed) not in results[name]:
                    figures = measure(f"{name}, seed {seed}", command, project, arguments.cores)
                    results[name][str(seed)] = figures
                    kept.write_text(json.dumps(results, indent=1))
    runs = {name: [results[name][str(seed)] for seed in arguments.seeds] for name in NAMES}
    cores, seeds = arguments.cores, arguments.seeds
    print(f"{arguments.folder.name}, {cores} cores, seeds {seeds}, fastai {version}\n")
    print(table(runs))


def fastai_version(python: str) -> str:
    """Return the version of fastai in an environment, or exit with one line if it has none."""
    check = [python, "-c", "import fastai.vision.all, timm; print(fastai.__version__)"]
    try:
        return subprocess.run(check, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        sys.exit(
            f"benchmarks.train: {python} cannot import fastai and timm: make an environment for "
            "them (python -m venv fa; fa/bin/pip install fastai timm), and give --fastai-python "
            "fa/bin/python"
        )


def make_project(path: Path, folder: Path) -> ProjectCopy:
    """Return a copy of the project with the photos of `folder` gathered, verified and split."""
    project = ProjectCopy(path)
    project.edit(**{"gather.source": "folder", "gather.path": str(folder), "compute.device": "cpu"})
    for stage in ("gather", "verify", "split"):
        project.stage(stage)
    settle_lr(project)
    return project


def settle_lr(project: ProjectCopy) -> None:
    """Write metrics/lr.json from the number in params.yaml, without the sweep of lr_find."""
    (project.path / "metrics").mkdir(exist_ok=True)
    (project.path / "metrics/lr_find.json").write_text('{"valley": null}')
    project.stage("lr")


def save_weights(path: Path) -> None:
    """Save the packaged weights under timm's names, as timm takes them for fine-tuning."""
    code = """
import sys, timm
from safetensors.torch import save_file
from pawprint.training.weights import load_in_order, packaged_weights, read_weights
model = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
load_in_order(model, read_weights(packaged_weights("tf_efficientnet_lite0")))
save_file(model.state_dict(), sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=True)


def measure(title: str, command: list, project: ProjectCopy, cores: int) -> Figures:
    """Run a part in a process of its own, on the first `cores` cores; return its figures.

    command: without the last argument, the file of figures.
    """
    answer = project.path / "answer.json"
    done = subprocess.run(
        [str(part) for part in [*command, answer]],
        cwd=project.path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(cores),
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONWARNINGS": "ignore",
        },
        preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(f"benchmarks.train: {title} failed:\n{done.stderr[-3000:]}")
    figures = json.loads(answer.read_text())
    shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
    print(f"{title:>15}: {shown}", file=sys.stderr, flush=True)
    return figures


def table(results: dict[str, list[Figures]]) -> str:
    """Return the means over the seeds as a Markdown table, and their ratios."""
    lines: list[tuple[str, str, int, Callable[[float, float], str]]] = [
        ("fit with decoding, s", "fit", 1, lambda ratio, _: f"{ratio:.1f} x as fast"),
        ("fit with decoding, CPU s", "fit_cpu", 1, lambda ratio, _: f"{ratio:.1f} x as few"),
        ("of it decoding, s", "decode", 1, lambda *_: ""),
        ("error on valid and test, %", "error", 100, lambda _, more: f"{more:+.2f}"),
        ("peak memory, MB", "memory", 1, lambda ratio, _: f"1/{ratio:.1f}"),
    ]
    rows = ["| | fastai | ours | |", "|---|---|---|---|"]
    for title, key, factor, compared in lines:
        theirs, own = (factor * statistics.mean(run[key] for run in results[n]) for n in NAMES)
        shown = "in every epoch" if key == "decode" else f"{theirs:.2f}"
        words = compared(theirs / own if own else 0.0, own - theirs)
        rows.append(f"| {title} | {shown} | {own:.2f} | {words} |")
    return "\n".join(rows)


def scale(arguments: argparse.Namespace) -> None:
    """Train on drawn pictures, so many at a time, and print a row for each count."""
    print(
        "| pictures | decoding, s | a frozen and a full epoch, s | ms a picture | peak memory, MB |"
    )
    print("|---|---|---|---|---|")
    command = [sys.executable, "-m", "benchmarks.ours_train"]
    # not in /tmp, which may be memory
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as temporary:
        for count in arguments.scale:
            project = draw_project(Path(temporary) / str(count), count)
            run = measure(f"{count} pictures", command, project, arguments.cores)
            decode, each = run["decode"], 1000 * run["fit"] / count
            figures = (
                f"{decode:.1f} | {run['fit'] - decode:.1f} | {each:.2f} | {run['memory']:,.0f}"
            )
            print(f"| {count:,} | {figures} |", flush=True)
            shutil.rmtree(project.path)


def draw_project(path: Path, count: int) -> ProjectCopy:
    """Return a project with drawn pictures in two classes, already split: coloured blocks."""
    project = ProjectCopy(path)
    recipe = {"arch": "test_efficientnet", "pretrained": False, "freeze_epochs": 1, "epochs": 1}
    project.edit(**{f"train.{key}": value for key, value in recipe.items()})
    project.edit(**{"compute.device": "cpu"})
    drawn = [draw(seed) for seed in range(64)]
    lines = ["path,label,group,split"]
    (path / "data/images").mkdir()
    for i in range(count):
        (path / f"data/images/{i}.jpg").write_bytes(drawn[i % 64])
        split = "valid" if i % 5 == 4 else "train"
        lines.append(f"data/images/{i}.jpg,{'ab'[i % 2]},{i},{split}")
    (path / "data/split.csv").write_text("\n".join(lines) + "\n")
    settle_lr(project)
    return project


def draw(seed: int) -> bytes:
    """Draw coloured blocks that one can tell from those of a seed of the other parity, as JPEG."""
    blocks = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    blocks[..., seed % 2] //= 2
    buffer = io.BytesIO()
    Image.fromarray(blocks).resize((256, 256)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
