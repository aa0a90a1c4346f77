"""fast.ai's fine_tune(4) and our train on the same photos: seconds, errors and memory, side by side.

    python benchmarks/train.py FOLDER --fastai-python PYTHON     # FOLDER: a folder for each class
    python benchmarks/train.py --scale 500 2000 8000             # ours alone, on so many generated pictures

The comparison: both get the same verified pictures (data/images), the same split, the same backbone weights
(tf_efficientnet_lite0 from the installed package), the same seeds and the same cores, each in a process of its own, in
turn. fastai is used as its book uses it (Howard and Gugger, chapter 2): RandomResizedCrop(224, min_scale=0.5),
aug_transforms(), 64 pictures a batch, vision_learner, fine_tune(4). Ours is the stage train with params.yaml as it is.

fit: fastai decodes in every epoch, so that its fine_tune contains all decoding; ours is therefore counted from the
first picture decoded to the last epoch, and the part of decoding is given beside it. Neither counts imports.
error: of the valid and of the test split together; neither is trained on or chosen by. memory: the highest resident
set of the main process; fastai's loader processes, which come on top, are not counted. Where others use the machine
too, the ratio of CPU seconds is the steadier figure. --results FILE keeps every run, so that a benchmark which was
stopped goes on where it stood.

--scale: a frozen and a full epoch of a tiny model (test_efficientnet, random weights) on generated JPEGs of 256 pixels
a side, four in five to train on, one in five to validate on: what grows is not the model's.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.project import Project

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = ("valid", "test")


def cpu() -> float:
    """Seconds of CPU that this process and its ended children have used."""
    return sum(os.times()[:4])


def peak() -> float:
    """The highest resident set of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Clock:
    """Seconds and CPU seconds by name, of the calls of what it wraps."""

    def __init__(self) -> None:
        self.took: dict[str, float] = {}

    def of(self, name: str, call: Callable) -> Callable:
        def timed(*arguments: object, **options: object) -> object:
            started, used = time.perf_counter(), cpu()
            result = call(*arguments, **options)
            self.took[name] = time.perf_counter() - started
            self.took[f"{name}_cpu"] = cpu() - used
            return result

        return timed


def run_fastai(seed: int, weights: str) -> dict[str, float]:
    """fine_tune(4) in the current project folder, in a Python that has fastai."""
    import pandas as pd
    import torch
    from fastai.vision.all import (
        ImageDataLoaders,
        RandomResizedCrop,
        aug_transforms,
        error_rate,
        set_seed,
        vision_learner,
    )

    set_seed(seed, reproducible=True)
    table = pd.read_csv("data/split.csv")
    rows = table[table["split"] != "test"].assign(is_valid=table["split"] == "valid")
    data = ImageDataLoaders.from_df(
        rows,
        ".",
        fn_col="path",
        label_col="label",
        valid_col="is_valid",
        seed=seed,
        item_tfms=RandomResizedCrop(224, min_scale=0.5),
        batch_tfms=aug_transforms(),
    )
    learner = vision_learner(
        data, "tf_efficientnet_lite0", metrics=error_rate, pretrained_cfg_overlay={"file": weights}
    )
    clock = Clock()
    with learner.no_bar(), learner.no_logging():
        clock.of("fit", learner.fine_tune)(4)
        wrong, pictures = 0, 0
        for split in HELD_OUT:
            asked = table[table["split"] == split]
            loader = data.test_dl([Path(path) for path in asked["path"]])
            answers, _ = learner.get_preds(dl=loader)
            targets = torch.tensor([data.vocab.o2i[label] for label in asked["label"]])
            wrong, pictures = (
                wrong + int((answers.argmax(dim=1) != targets).sum()),
                pictures + len(asked),
            )
    return {
        **clock.took,
        "decode": 0.0,
        "error": wrong / pictures,
        "pictures": pictures,
        "memory": peak(),
    }


def run_ours(seed: int, weights: str) -> dict[str, float]:
    """The stage train in the current project folder, whose params.yaml has the seed."""
    import pandas as pd

    sys.path.insert(
        0, os.getcwd()
    )  # the project's own stages: these may change while the benchmark runs
    from pawprint.params import load_params
    from pawprint.pictures.batches import load_pictures
    from pawprint.training.device import ComputeParams, start
    from pawprint.training.inference import predict
    from pawprint.training.model import load_model
    from stages import train

    clock = Clock()
    train.load_data = clock.of("decode", train.load_data)
    train.Learner.train = clock.of("fit", train.Learner.train)
    sys.argv = [
        "train",
        "--table",
        "data/split.csv",
        "--model",
        "models/ours.safetensors",
        "--metrics",
        "metrics/ours",
    ]
    train.main()
    for unit in ("", "_cpu"):
        clock.took[f"fit{unit}"] += clock.took[f"decode{unit}"]
    device = start(load_params("compute", ComputeParams), seed)
    model, config = load_model("models/ours.safetensors")
    table = pd.read_csv("data/split.csv")
    asked = table[table["split"].isin(HELD_OUT)]
    pictures = load_pictures(
        asked["path"].tolist(), config.size, config.resize, config.interpolation
    )
    answers = [
        config.classes[i] for i in predict(model, pictures, config, device).argmax(dim=1).tolist()
    ]
    wrong = int((asked["label"] != answers).sum())
    return {**clock.took, "error": wrong / len(asked), "pictures": len(asked), "memory": peak()}


RUNS = {"fastai": run_fastai, "ours": run_ours}


def copy_project(path: Path) -> "Project":
    """A copy of the project, whose params can be edited."""
    sys.path.insert(0, str(ROOT))
    from tests.project import Project  # here: a Python that has fastai need not have what it takes

    return Project(path)


def make_project(path: Path, folder: Path) -> "Project":
    """A copy of the project with the photos of `folder` gathered, verified and split."""
    project = copy_project(path)
    project.edit(**{"gather.source": "folder", "gather.path": str(folder), "compute.device": "cpu"})
    for stage in ("gather", "verify", "split"):
        project.stage(stage)
    return project


def save_weights(path: Path) -> None:
    """The packaged weights under timm's names, as timm wants them for a model that is to be fine-tuned."""
    code = """
import sys, timm
from safetensors.torch import save_file
from pawprint.training.model import load_in_order, packaged_weights, read_weights
model = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
load_in_order(model, read_weights(packaged_weights("tf_efficientnet_lite0")))
save_file(model.state_dict(), sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=True)


def measure(
    name: str, python: str, project: Path, seed: int, weights: Path, cores: int
) -> dict[str, float]:
    """One run in a process of its own, on the first `cores` cores."""
    answer = project / "answer.json"
    command = [python, Path(__file__).resolve(), "--run", name, seed, weights, answer]
    done = subprocess.run(
        [str(part) for part in command],
        cwd=project,
        env={
            **os.environ,
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
        sys.exit(f"benchmarks/train.py: {name} failed:\n{done.stderr[-3000:]}")
    result = json.loads(answer.read_text())
    figures = "  ".join(f"{key} {value:.4g}" for key, value in result.items())
    print(f"{name:>6}, seed {seed}: {figures}", file=sys.stderr, flush=True)
    return result


def compare(arguments: argparse.Namespace) -> None:
    check = [
        arguments.fastai_python,
        "-c",
        "import fastai.vision.all, timm; print(fastai.__version__)",
    ]
    try:
        version = subprocess.run(check, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        sys.exit(
            f"benchmarks/train.py: {arguments.fastai_python} cannot import fastai and timm: make an environment of its "
            "own (python -m venv fa; fa/bin/pip install fastai timm), and give --fastai-python fa/bin/python"
        )
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "weights.safetensors"
        project = make_project(Path(temporary) / "project", arguments.folder.resolve())
        save_weights(weights)
        kept = arguments.results or Path(temporary) / "results.json"
        results: dict[str, dict[str, dict[str, float]]] = {name: {} for name in RUNS}
        if kept.exists():
            results = json.loads(kept.read_text())
        for seed in arguments.seeds:
            project.edit(**{"train.seed": seed})
            for name, python in (("fastai", arguments.fastai_python), ("ours", sys.executable)):
                if str(seed) not in results[name]:
                    results[name][str(seed)] = measure(
                        name, python, project.path, seed, weights, arguments.cores
                    )
                    kept.write_text(json.dumps(results, indent=1))
        runs = {
            name: [by_seed[str(seed)] for seed in arguments.seeds]
            for name, by_seed in results.items()
        }
    print(
        f"{arguments.folder.name}, {arguments.cores} cores, seeds {arguments.seeds}, fastai {version}\n"
    )
    print(table(runs))


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """The means over the seeds as a Markdown table, and their ratios."""
    lines = [
        ("fit with decoding, s", "fit", 1, lambda theirs, own: f"{theirs / own:.1f} x as fast"),
        (
            "fit with decoding, CPU s",
            "fit_cpu",
            1,
            lambda theirs, own: f"{theirs / own:.1f} x as few",
        ),
        ("of it decoding, s", "decode", 1, lambda *_: ""),
        ("error on valid and test, %", "error", 100, lambda theirs, own: f"{own - theirs:+.2f}"),
        ("peak memory, MB", "memory", 1, lambda theirs, own: f"1/{theirs / own:.1f}"),
    ]
    rows = ["| | fastai | ours | |", "|---|---|---|---|"]
    for title, key, factor, ratio in lines:
        theirs, own = (statistics.mean(run[key] * factor for run in results[name]) for name in RUNS)
        shown = "in every epoch" if key == "decode" else f"{theirs:.2f}"
        rows.append(f"| {title} | {shown} | {own:.2f} | {ratio(theirs, own)} |")
    return "\n".join(rows)


def scale(arguments: argparse.Namespace) -> None:
    rows = [
        "| pictures | decoding, s | a frozen and a full epoch, s | ms a picture | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(
        dir=Path.cwd()
    ) as temporary:  # not in /tmp, which may be memory
        for count in arguments.scale:
            project = Path(temporary) / str(count)
            make_generated(project, count)
            run = measure("ours", sys.executable, project, 42, Path("none"), arguments.cores)
            fit = run["fit"] - run["decode"]
            each = 1000 * run["fit"] / count
            rows.append(
                f"| {count:,} | {run['decode']:.1f} | {fit:.1f} | {each:.2f} | {run['memory']:,.0f} |"
            )
            shutil.rmtree(project)
    print("\n".join(rows))


def make_generated(project: Path, count: int) -> None:
    """A project with so many pictures in two classes, drawn as coloured blocks and split already."""
    import io

    import numpy as np
    from PIL import Image

    copied = copy_project(project)
    still = {"arch": "test_efficientnet", "pretrained": False, "freeze_epochs": 1, "epochs": 1}
    copied.edit(
        **{f"train.{key}": value for key, value in still.items()}, **{"compute.device": "cpu"}
    )
    drawn = []
    for seed in range(64):
        blocks = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        blocks[..., seed % 2] //= 2
        buffer = io.BytesIO()
        Image.fromarray(blocks).resize((256, 256)).save(buffer, "JPEG", quality=90)
        drawn.append(buffer.getvalue())
    lines = ["path,label,group,split"]
    (project / "data/images").mkdir()
    for i in range(count):
        (project / f"data/images/{i}.jpg").write_bytes(drawn[i % 64])
        split = "valid" if i % 5 == 4 else "train"
        lines.append(f"data/images/{i}.jpg,{'ab'[i % 2]},{i},{split}")
    (project / "data/split.csv").write_text("\n".join(lines) + "\n")


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        name, seed, weights, answer = sys.argv[2:]
        Path(answer).write_text(json.dumps(RUNS[name](int(seed), weights)))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument(
        "--scale", type=int, nargs="+", metavar="COUNT", help="ours alone, on generated pictures"
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
    scale(arguments) if arguments.scale else compare(arguments)


if __name__ == "__main__":
    main()
