"""fastai asked about pictures over a pipe, warm; a part of `predict`.

    python -m benchmarks.fastai_predict

It runs in a Python that has fastai and timm. The first line of standard input is JSON [arch, size,
files]; each line after it is [way, number], answered by [seconds, CPU seconds] per picture. The
ways: `one` (learn.predict, again and again), `workers` and `none` (learn.get_preds with fastai's
default number of loader processes, or none). The weights are random, because the time does not
depend on them.
"""

import json
import sys
import warnings
from functools import partial
from pathlib import Path

from fastai.vision.all import ImageDataLoaders, Resize, defaults, vision_learner

from benchmarks.clock import measured


def main() -> None:
    """Answer until standard input ends."""
    warnings.simplefilter("ignore")
    arch, size, names = json.loads(sys.stdin.readline())
    files = [Path(name) for name in names]
    data = ImageDataLoaders.from_path_func(
        ".",
        files[:64],
        lambda file: "ab"[files.index(file) % 2],
        valid_pct=0.2,
        item_tfms=Resize(size),
        bs=32,
        num_workers=0,
    )
    learner = vision_learner(data, arch, pretrained=False, normalize=False)

    def ask(way: str, number: int) -> None:
        if way == "one":
            for _ in range(number):
                learner.predict(files[0])
        else:
            workers = defaults.cpus if way == "workers" else 0
            loader = data.test_dl(files[:number], bs=32, num_workers=workers)
            learner.get_preds(dl=loader)

    with learner.no_bar(), learner.no_logging():
        print("ready", flush=True)
        for line in sys.stdin:
            way, number = json.loads(line)
            _, took, used = measured(partial(ask, way, number))
            print(json.dumps([took / number, used / number]), flush=True)


if __name__ == "__main__":
    main()
