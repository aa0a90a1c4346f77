"""How fast the exported model answers beside fastai with the same backbone on the same photos, in one run.

    python benchmarks/predict.py EXPORT FOLDER --fastai-python PYTHON

EXPORT: an exported folder; FOLDER: any folder of photos; PYTHON: the interpreter of an environment with fastai and timm
(fastai is needed here and nowhere else). Two questions, each asked of both in turns, the best of each counted:
one picture with everything warm, from a file to an answer (`learn.predict` there); and 1,000 files, photos taken again
where there are fewer (`learn.get_preds` there, with its default number of workers or none, whichever is faster on 100).
Weights do not matter for the time, so fastai's are random. Both may use all cores.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pawprint.commands.exported import load
from pawprint.commands.predict import ask, find

THEIRS = """
import json, sys, time, warnings
from functools import partial
warnings.simplefilter("ignore")
import torch
from fastai.vision.all import *
arch, size, files = json.loads(sys.stdin.readline())
files = [Path(file) for file in files]
def label(file): return "ab"[hash(file) % 2]
data = ImageDataLoaders.from_path_func(".", files[:64], lambda file: "ab"[files.index(file) % 2], valid_pct=0.2,
                                       item_tfms=Resize(size), bs=32, num_workers=0)
learn = vision_learner(data, arch, pretrained=False, normalize=False)
def one():
    learn.predict(files[0])
def many(n, workers):
    return learn.get_preds(dl=data.test_dl(files[:n], bs=32, num_workers=workers))[0]
with learn.no_bar(), learn.no_logging():
    print("ready", flush=True)
    for line in sys.stdin:
        what, n = json.loads(line)
        started = time.perf_counter()
        if what == "one":
            for _ in range(n): one()
        else:
            many(n, defaults.cpus if what == "workers" else 0)
        print((time.perf_counter() - started) / n, flush=True)
"""


class Theirs:
    """fastai in a process of its own, warm, asked over a pipe."""

    def __init__(self, python: str, arch: str, size: int, files: list[str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([python, "-c", THEIRS], text=True, **pipes)
        self.say([arch, size, files])
        if self.process.stdout.readline() != "ready\n":
            sys.exit("benchmarks/predict.py: fastai did not start; its own message stands above")

    def say(self, what: object) -> None:
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def seconds(self, what: str, n: int) -> float:
        """Seconds a picture, over n pictures."""
        self.say([what, n])
        return float(self.process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fastai-python", required=True)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()

    classifier, single = (
        load(arguments.export),
        load(arguments.export, threads=1),
    )  # as `pawprint predict` has them
    photos = list(find([str(arguments.folder)]))
    files = list(islice(cycle(photos), arguments.files))
    theirs = Theirs(
        arguments.fastai_python, classifier.config["arch"], classifier.config["size"], files
    )

    def one(n: int) -> None:
        for _ in range(n):
            with Image.open(files[0]) as image:
                classifier(image)

    def many(n: int) -> None:
        assert sum("error" in answer for answer in ask(single, files[:n])) == 0

    def ours(run, n: int) -> float:
        started = time.perf_counter()
        run(n)
        return (time.perf_counter() - started) / n

    ours(one, 3), ours(many, min(100, len(files))), theirs.seconds("one", 3)
    way = min(("workers", "none"), key=lambda name: theirs.seconds(name, min(100, len(files))))
    best: dict[str, float] = {}
    for _ in range(arguments.rounds):
        taken = {"one": ours(one, 30), "their one": theirs.seconds("one", 30)}
        taken |= {"many": ours(many, len(files)), "their many": theirs.seconds(way, len(files))}
        best = {name: min(seconds, best.get(name, seconds)) for name, seconds in taken.items()}
        print({name: round(seconds, 4) for name, seconds in taken.items()}, file=sys.stderr)
    theirs.process.stdin.close()
    megabytes = (arguments.export / "model.onnx").stat().st_size / 1e6
    print(
        f"{len(photos)} photos, {len(os.sched_getaffinity(0))} cores, model of {megabytes:.1f} MB\n"
        f"one picture: ours {1000 * best['one']:.1f} ms, learn.predict {1000 * best['their one']:.1f} ms, "
        f"ratio {best['their one'] / best['one']:.1f}\n"
        f"{len(files)} files: ours {1 / best['many']:.0f} a second, "
        f"learn.get_preds {1 / best['their many']:.0f} a second, ratio {best['their many'] / best['many']:.1f}"
    )


if __name__ == "__main__":
    main()
