"""Measure how seconds and memory grow: of near duplicates, and of every stage from split on.

    python -m benchmarks.growth --hashes                        # 25,000 to 1,000,000 hashes
    python -m benchmarks.growth FOLDER --pictures 1000 10000 100000
    python -m benchmarks.growth FOLDER --pictures 100000 --stages split baseline clean

--hashes finds the groups of hashes of which one in four is a near copy, as data sets have them.
With a FOLDER, each count gets a project in it, which is removed at the end: pictures in ten classes
that are hard links to 64 drawn ones of 64 pixels, with a hash of their own, one in ten near
another. The model is tiny (test_efficientnet, random weights, one frozen and one full epoch), and
features are drawn as wide as those of the default model, unless the stage `features` is named: so
what is measured is ours, not the network. The exponent is that of the growth from the count before,
in CPU seconds: 1 is linear, 2 quadratic. --results FILE keeps the figures, so a benchmark that was
stopped can go on.
"""

import argparse
import json
import math
import os
import resource
import shlex
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.project import ProjectCopy
from benchmarks.scale import PIPELINE, Figures, run
from benchmarks.train import draw, settle_lr
from pawprint.judging.near_duplicates import find_groups
from pawprint.tables import write_json, write_table

HASHES = (25_000, 100_000, 400_000, 1_000_000)
STAGES = tuple(name for name in PIPELINE if name not in ("gather", "verify", "lr"))
WITHOUT_MODEL = {"split", "baseline", "clean"}
CLASSES, DRAWN = 10, 64
WIDTHS = {"features": 1280, "mirrored": 1280, "maps": 640}  # of tf_efficientnet_lite0
HEADER = "| {} | {} | seconds | CPU seconds | MB of memory | exponent |\n|---|---|---|---|---|---|"


def main() -> None:
    """Measure hashes or stages, and print a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--hashes", action="store_true")
    parser.add_argument("--pictures", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--results", type=Path, help="a JSON file of figures: read, and added to")
    arguments = parser.parse_args()
    if bool(arguments.folder) == arguments.hashes:
        parser.error("give either a folder or --hashes")
    if arguments.hashes:
        measure_hashes()
    else:
        measure_stages(arguments)


def measure_hashes() -> None:
    """Find the groups of ever more hashes, and print a row for each count."""
    print(HEADER.format("hashes", "groups"))
    before: tuple[int, float] | None = None
    for count in HASHES:
        hashes = draw_hashes(count)
        begin, used = time.perf_counter(), time.process_time()
        groups = len(set(find_groups(hashes, [""] * count, 4)))
        seconds, cpu = time.perf_counter() - begin, time.process_time() - used
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        grown = exponent(before, (count, cpu))
        figures = f"{seconds:.2f} | {cpu:.2f} | {memory:,.0f} | {grown}"
        print(f"| {count:,} | {groups:,} | {figures} |", flush=True)
        before = count, cpu


def draw_hashes(count: int, copies: float = 0.25) -> list[str]:
    """Return hashes of 16 hex digits, of which a share are others with up to three bits flipped."""
    random = np.random.default_rng(count)
    bits = random.integers(0, 2**64, count, dtype=np.uint64)
    near = bits[random.integers(0, count, int(copies * count))]
    for _ in range(3):
        one = np.uint64(1) << random.integers(0, 64, len(near), dtype=np.uint64)
        near ^= np.where(random.random(len(near)) < 0.7, one, np.uint64(0))
    bits[random.permutation(count)[: len(near)]] = near
    return [f"{value:016x}" for value in bits.tolist()]


def exponent(before: tuple[int, float] | None, now: tuple[int, float]) -> str:
    """Return the exponent of growth between two counts and their CPU seconds, or nothing."""
    if before is None or not before[1] or not now[1]:
        return ""
    return f"{math.log(now[1] / before[1]) / math.log(now[0] / before[0]):.2f}"


def measure_stages(arguments: argparse.Namespace) -> None:
    """Run the stages on every count of pictures, and print a row for each."""
    kept = arguments.results
    done: dict[str, dict[str, Figures]] = {}
    if kept and kept.exists():
        done = json.loads(kept.read_text())
    for count in arguments.pictures:
        rows = done.setdefault(str(count), {})
        if all(name in rows for name in arguments.stages):
            continue
        home = arguments.folder.resolve() / str(count)
        shutil.rmtree(home, ignore_errors=True)
        project = make_project(home / "project", count)
        needed = {"split", *arguments.stages}
        if needed <= WITHOUT_MODEL:
            draw_features(project)
        else:
            needed |= set(STAGES)
        for name in [name for name in STAGES if name in needed]:
            rows[name] = run(*shlex.split(PIPELINE[name]["cmd"]), cwd=project.path)
            print(count, name, rows[name], file=sys.stderr, flush=True)
            if kept:
                kept.write_text(json.dumps(done, indent=1))
        shutil.rmtree(home)
    print(HEADER.format("stage", "pictures"))
    counts = sorted(map(int, done))
    for name in STAGES:
        before: tuple[int, float] | None = None
        for count in [count for count in counts if name in done[str(count)]]:
            row = done[str(count)][name]
            grown = exponent(before, (count, row["cpu"]))
            figures = f"{row['seconds']} | {row['cpu']} | {row['mb']:,} | {grown}"
            print(f"| {name} | {count:,} | {figures} |")
            before = count, row["cpu"]


def make_project(path: Path, count: int) -> ProjectCopy:
    """Return a project as verify leaves it."""
    project = ProjectCopy(path)
    recipe = {"arch": "test_efficientnet", "pretrained": False, "freeze_epochs": 1, "epochs": 1}
    project.edit(**{f"train.{key}": value for key, value in recipe.items()})
    project.edit(**{"train.size": 64, "train.train_size": 64, "compute.device": "cpu"})
    drawn = path / "drawn"
    drawn.mkdir()
    for i in range(DRAWN):
        (drawn / f"{i}.jpg").write_bytes(draw(i))
    for label in range(CLASSES):
        (path / f"data/images/class{label}").mkdir(parents=True)
    paths = [f"data/images/class{i % CLASSES}/{i:016x}.jpg" for i in range(count)]
    for i, each in enumerate(paths):
        os.link(drawn / f"{i % DRAWN}.jpg", path / each)
    write_verified(path, paths)
    settle_lr(project)
    return project


def write_verified(path: Path, paths: list[str]) -> None:
    """Write what the stages from split on read of gather and verify."""
    count = len(paths)
    random = np.random.default_rng(0)
    labels = [each.split("/")[2] for each in paths]
    images: dict[str, object] = {
        "path": paths,
        "label": labels,
        "sha256": [f"{i:064x}" for i in range(count)],
    }
    images |= {"width": 256, "height": 256, "phash": draw_hashes(count, 0.1)}
    write_table(
        path / "data/images.csv", pd.DataFrame(images | {"url": paths, "split": "", "group": ""})
    )
    raw = [each.replace("images", "raw") for each in paths]
    gathered: dict[str, object] = {"path": raw, "label": labels, "sha256": images["sha256"]}
    gathered |= {"url": paths, "status": "ok"}
    write_table(path / "data/gathered.csv", pd.DataFrame(gathered))
    header = ("brightness", "sharpness", "entropy", "size", "aspect_ratio")
    scores = ("dark", "light", "blurry", "low_information", "odd_size", "odd_aspect_ratio")
    measured: dict[str, object] = {
        name: random.random(count) for name in (*header, *(f"{s}_score" for s in scores))
    }
    measured |= {"grey": np.zeros(count), "severity": random.random(count)}
    faults = np.where(random.random(count) < 0.02, "blurry", "")
    table = {"path": paths, "url": paths, **measured, "faults": faults}
    write_table(path / "data/properties.csv", pd.DataFrame(table))
    (path / "metrics").mkdir(exist_ok=True)
    write_json(path / "metrics/verify.json", {"kept": count, "ranges": {}})


def draw_features(project: ProjectCopy) -> None:
    """Write the body, and features that tell the classes apart, as wide as the default model's."""
    code = """
import sys, numpy as np
from benchmarks.growth import CLASSES, WIDTHS
from pawprint.params import load_params
from pawprint.tables import read_table
from pawprint.training.features import IMAGES, hash_rows, write_features
from pawprint.training.model import create_model, save_body
from pawprint.training.recipe import BodyParams
from pawprint.training.stored import BODY, hash_body
params = load_params("train", BodyParams)
save_body(BODY, *create_model(params, ["any"]))
paths = read_table(IMAGES)["path"].tolist()
means = {kind: np.random.default_rng(0).normal(size=(CLASSES, n)) for kind, n in WIDTHS.items()}
def batches():
    for first in range(0, len(paths), 1000):
        of = np.arange(first, min(first + 1000, len(paths)))
        random = np.random.default_rng(first)
        yield {k: random.normal(m[of % CLASSES], 3).astype("f4") for k, m in means.items()}
about = {"body": hash_body(), "rows": hash_rows(paths), "arch": params.arch}
write_features(len(paths), batches(), about)
"""
    done = project.run(sys.executable, "-c", code)
    if done.returncode:
        sys.exit(f"benchmarks.growth: the features cannot be drawn:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
