"""Compare the exported model's speed with fastai's, same backbone and same photos, in one run.

    python -m benchmarks.predict EXPORT FOLDER --fastai-python PYTHON

EXPORT: an exported folder; FOLDER: any folder of photos; PYTHON: the interpreter of an environment
with fastai and timm. Two questions, each asked of both in turn; the best time of each counts:
one picture with everything warm, from a file to an answer (`learn.predict` there); and 1,000
files, with photos repeated if there are fewer (`learn.get_preds` there, with its default number of
workers or none, whichever is faster on 100). The weights do not change the time, so fastai's are
random. Both may use all cores.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import IO

from benchmarks.project import ROOT, photos_in
from pawprint.commands.exported import load
from pawprint.commands.predict import answer_files
from pawprint.compute.cores import cores


class Fastai:
    """fastai in a process of its own, warm, asked over a pipe."""

    def __init__(self, python: str, arch: str, size: int, files: list[str]) -> None:
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.fastai_predict"],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._say([arch, size, files])
        if self._stream("stdout").readline() != "ready\n":
            sys.exit("benchmarks.predict: fastai did not start; see its own message above")

    def seconds(self, way: str, number: int) -> float:
        """Return the seconds per picture, over so many pictures."""
        self._say([way, number])
        return float(self._stream("stdout").readline())

    def stop(self) -> None:
        """End the process."""
        self._stream("stdin").close()
        self.process.wait()

    def _say(self, what: object) -> None:
        self._stream("stdin").write(json.dumps(what) + "\n")
        self._stream("stdin").flush()

    def _stream(self, name: str) -> IO[str]:
        return getattr(self.process, name)


def main() -> None:
    """Measure, and print the best times of both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fastai-python", required=True)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()

    # as `pawprint predict` loads them: all cores for one picture, or one core for each of many
    classifier, single = load(arguments.export), load(arguments.export, threads=1)
    photos = [str(photo.resolve()) for photo in photos_in(arguments.folder)]
    files = list(islice(cycle(photos), arguments.files))
    config = classifier.config
    fastai = Fastai(arguments.fastai_python, config["arch"], config["size"], files)

    def one(number: int) -> None:
        for _ in range(number):
            classifier(files[0])

    def many(number: int) -> None:
        assert sum("error" in answer for answer in answer_files(single, files[:number])) == 0

    # warm up, and choose fastai's faster way
    few = min(100, len(files))
    seconds(one, 3)
    seconds(many, few)
    fastai.seconds("one", 3)
    way = min(("workers", "none"), key=lambda name: fastai.seconds(name, few))

    best: dict[str, float] = {}
    for _ in range(arguments.rounds):
        taken = {
            "one": seconds(one, 30),
            "their one": fastai.seconds("one", 30),
            "many": seconds(many, len(files)),
            "their many": fastai.seconds(way, len(files)),
        }
        best = {name: min(took, best.get(name, took)) for name, took in taken.items()}
        print({name: round(took, 4) for name, took in taken.items()}, file=sys.stderr)
    fastai.stop()
    megabytes = (arguments.export / "model.onnx").stat().st_size / 1e6
    print(f"{len(photos)} photos, {cores()} cores, model of {megabytes:.1f} MB")
    print(
        f"one picture: ours {1000 * best['one']:.1f} ms, "
        f"learn.predict {1000 * best['their one']:.1f} ms, "
        f"ratio {best['their one'] / best['one']:.1f}"
    )
    print(
        f"{len(files)} files: ours {1 / best['many']:.0f} per second, "
        f"learn.get_preds {1 / best['their many']:.0f} per second, "
        f"ratio {best['their many'] / best['many']:.1f}"
    )


def seconds(run: Callable[[int], None], number: int) -> float:
    """Return the seconds per picture that a run over so many pictures takes."""
    started = time.perf_counter()
    run(number)
    return (time.perf_counter() - started) / number


if __name__ == "__main__":
    main()
