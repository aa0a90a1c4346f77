"""Compare fastai's unet_learner with the lesson `segmentation` on the same pictures.

    python -m benchmarks.segmentation FOLDER --fastai-python PYTHON

FOLDER holds images/, labels/ and codes.txt, as CamVid-tiny does. Both get the same split, the same
encoder and weights (tf_efficientnet_lite0 from the installed package) and the same size. fastai is
used as its book uses it (Howard and Gugger, chapter 1): SegmentationDataLoaders, 8 pictures per
batch, unet_learner, fine_tune(8). Ours is the lesson's params.yaml as it is: one frozen epoch and
eight more. Both answers are judged by the lesson's own function, pixels of void left out.

Seconds are those of the whole process, imports and reading included, in turn.
"""

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.project import ROOT, edit_yaml
from benchmarks.train import fastai_version, save_weights
from pawprint.params import load_yaml
from pawprint.tables import read_json, read_table


def main() -> None:
    """Run both with every seed, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--fastai-python", default=sys.executable, help="a Python with fastai and timm"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    arguments = parser.parse_args()
    version = fastai_version(arguments.fastai_python)
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "weights.safetensors"
        save_weights(weights)
        lesson = copy_lesson(Path(temporary), arguments.folder.resolve())
        rows = []
        for seed in arguments.seeds:
            edit_yaml(lesson / "params.yaml", **{"fit.seed": seed})
            seconds = run(lesson, sys.executable, "train.py")
            figures = read_json(lesson / "metrics/segmentation.json")["valid"]
            rows.append({"model": "majority", "seed": seed, **figures["majority"], "seconds": 0.0})
            rows.append({"model": "ours", "seed": seed, **figures["unet"], "seconds": seconds})
            command = ["-m", "benchmarks.fastai_segmentation", str(seed), str(weights)]
            seconds = run(lesson, arguments.fastai_python, *command)
            figures = judge(lesson)
            rows.append({"model": f"fastai {version}", "seed": seed, **figures, "seconds": seconds})
            print(json.dumps(rows[-3:]), file=sys.stderr, flush=True)
    print("| | pixel accuracy, each seed | mean IoU, each seed | seconds, mean |")
    print("|---|---|---|---|")
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        accuracy, iou = (
            ", ".join(f"{row[key]:.3f}" for row in own) for key in ("pixel_accuracy", "mean_iou")
        )
        print(f"| {name} | {accuracy} | {iou} | {np.mean([row['seconds'] for row in own]):.0f} |")


def copy_lesson(folder: Path, pictures: Path) -> Path:
    """Return a copy of the lesson with the pictures gathered."""
    lesson = folder / "lessons/segmentation"
    ignored = shutil.ignore_patterns("__pycache__", "data", "metrics", "plots")
    shutil.copytree(ROOT / "lessons/segmentation", lesson, ignore=ignored)
    shutil.copyfile(ROOT / "lessons/gather.py", folder / "lessons/gather.py")
    edit_yaml(lesson / "params.yaml", **{"gather.source": str(pictures), "compute.device": "cpu"})
    run(lesson, sys.executable, "../gather.py", "images", "labels", "codes.txt")
    return lesson


def run(lesson: Path, *command: str) -> float:
    """Run a command in the lesson's folder; return its seconds."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=lesson, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"benchmarks.segmentation: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


def judge(lesson: Path) -> dict[str, float]:
    """Return pixel accuracy and mean IoU of the answers that fastai wrote."""
    functions = runpy.run_path(str(lesson / "train.py"))
    values = load_yaml(lesson / "params.yaml")["fit"]
    params = functions["FitParams"](**values)
    codes = (lesson / "data/raw/codes.txt").read_text().split()
    table = read_table(lesson / "data/split.csv")
    names = table["name"][table["split"] == "valid"].tolist()
    before = Path.cwd()
    os.chdir(lesson)
    try:
        valid = functions["load"](names, len(codes), params)
    finally:
        os.chdir(before)
    void = codes.index(params.void) if params.void in codes else -100
    answers = torch.from_numpy(np.load(lesson / "answers.npy"))
    found = functions["judge"](answers, valid.classes, codes, void)
    return {key: found[key] for key in ("pixel_accuracy", "mean_iou")}


if __name__ == "__main__":
    main()
