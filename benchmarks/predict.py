"""Compare the exported model's speed with fastai's, same backbone and same photos, in one run.

    python -m benchmarks.predict EXPORT FOLDER --fastai-python PYTHON

EXPORT: an exported folder; FOLDER: any folder of photos; PYTHON: the interpreter of an environment
with fastai and timm. Two questions, each asked of both in turn; the best time of each counts:
one picture with everything warm, from a file to an answer (`learn.predict` there); and 1,000
files, with photos repeated if there are fewer (`learn.get_preds` there, with its default number of
workers or none, whichever is faster on 100). The weights do not change the time, so fastai's are
random. Both may use all cores. If other programs use the machine too, the ratio of CPU seconds is
the steadier figure.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import IO

from benchmarks.clock import measured
from benchmarks.project import ROOT, photos_in
from pawprint.commands.exported import load
from pawprint.commands.predict import answer_files
from pawprint.commands.runtimes import RUNTIMES, SPARE
from pawprint.compute.cores import cores

Times = tuple[float, float]  # seconds and CPU seconds per picture


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

    def seconds(self, way: str, number: int) -> Times:
        """Return what it takes over so many pictures."""
        self._say([way, number])
        took, used = json.loads(self._stream("stdout").readline())
        return took, used

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
    parser.add_argument("--runtime", choices=RUNTIMES, default=RUNTIMES[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()

    # as `pawprint predict` loads them: all cores for one picture, or one core for each of many
    classifier, single = (load(arguments.export, threads, arguments.runtime) for threads in (0, 1))
    photos = [str(photo.resolve()) for photo in photos_in(arguments.folder)]
    files = list(islice(cycle(photos), arguments.files))
    config = classifier.config
    fastai = Fastai(arguments.fastai_python, config["arch"], config["size"], files)

    def one(number: int) -> None:
        for _ in range(number):
            classifier(files[0])

    def many(number: int) -> None:
        spare = SPARE[arguments.runtime]
        answers = answer_files(single, files[:number], spare=spare)
        assert sum("error" in answer for answer in answers) == 0

    # warm up, and choose fastai's faster way
    few = min(100, len(files))
    seconds(one, 3)
    seconds(many, few)
    fastai.seconds("one", 3)
    way = min(("workers", "none"), key=lambda name: fastai.seconds(name, few)[0])

    best: dict[str, Times] = {}
    for _ in range(arguments.rounds):
        taken = {
            "one": seconds(one, 30),
            "their one": fastai.seconds("one", 30),
            "many": seconds(many, len(files)),
            "their many": fastai.seconds(way, len(files)),
        }
        for name, found in taken.items():
            (took, used), (fastest, least) = found, best.get(name, found)
            best[name] = min(took, fastest), min(used, least)
        print({name: [round(each, 4) for each in taken[name]] for name in taken}, file=sys.stderr)
    fastai.stop()
    megabytes = (arguments.export / "model.onnx").stat().st_size / 1e6
    print(
        f"{arguments.runtime}, {len(photos)} photos, {cores()} cores, model of {megabytes:.1f} MB"
    )
    print(f"one picture: {compare(best['one'], best['their one'], 'predict')}")
    print(f"{len(files)} files: {compare(best['many'], best['their many'], 'get_preds')}")


def compare(ours: Times, theirs: Times, name: str) -> str:
    """Return what both take per picture, and the ratios."""
    return (
        f"ours {1000 * ours[0]:.1f} ms, learn.{name} {1000 * theirs[0]:.1f} ms, "
        f"ratio {theirs[0] / ours[0]:.1f}; of CPU {theirs[1] / ours[1]:.1f} "
        f"({1000 * ours[1]:.1f} and {1000 * theirs[1]:.1f} ms)"
    )


def seconds(run: Callable[[int], None], number: int) -> Times:
    """Return the seconds and the CPU seconds per picture that a run over so many takes."""
    _, took, used = measured(lambda: run(number))
    return took / number, used / number


if __name__ == "__main__":
    main()
