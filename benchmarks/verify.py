"""Compare fastai's verify_images and resize_images with our verify on the same photos, in one run.

    python -m benchmarks.verify FOLDER    # a folder with one folder of pictures per class

Run it in a Python that has both fastai and pawprint's packages. Both use all cores this process
may use. Both are measured from the call to the last file written; imports and the reading of
tables do not count. fastai runs verify_images and resize_images(max_size=400), ours runs with
params.yaml as it is: it decodes once, writes 4:2:0 JPEGs and computes a perceptual hash as well.
The order alternates, so neither always finds the other's files in the cache; the best time of each
is compared. If other programs use the machine too, the ratio of CPU seconds is the steadier figure.
"""

import argparse
import hashlib
import importlib
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from unittest import mock

from benchmarks.clock import measured
from pawprint.compute.cores import cores
from pawprint.compute.engine import Engine
from pawprint.params import load_params
from pawprint.pictures.storing import VerifyParams
from stages import verify


def theirs(files: list[Path], target: Path) -> int:
    """Check and resize with fastai; return how many files are sound."""
    fastai = importlib.import_module("fastai.vision.utils")
    failed = {Path(path) for path in fastai.verify_images(files)}
    for each in sorted({path.parent for path in files}):
        fastai.resize_images(each, max_size=400, dest=target / each.name)
    return len(files) - len(failed)


def ours(files: list[Path], target: Path) -> int:
    """Decode, resize, hash and store as the stage does; return how many files are sound."""
    rows = []
    for path in files:
        (target / path.parent.name).mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(str(path).encode()).hexdigest()
        rows.append({"path": str(path), "label": path.parent.name, "sha256": name})
    with mock.patch.object(verify, "IMAGES", target):
        params = load_params("verify", VerifyParams)
        results = list(verify.convert_all(Engine(), rows, params.preparation({}), params.quality))
    return sum("reason" not in result for result in results)


def main() -> None:
    """Measure both in turn, and print the best of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    try:
        importlib.import_module("fastai.vision.utils")
    except ImportError as error:
        sys.exit(
            f"benchmarks.verify: fastai cannot be imported ({error}): install it into a copy of "
            "this environment with `pip install fastai`"
        )
    files = sorted(path for path in arguments.folder.glob("*/*") if path.is_file())
    best: dict[str, float] = {}
    least: dict[str, float] = {}
    for number in range(arguments.rounds):
        for run in (theirs, ours) if number % 2 else (ours, theirs):
            target = Path(tempfile.mkdtemp())
            sound, took, used = measured(partial(run, files, target))
            written = sum(path.is_file() for path in target.rglob("*"))
            counts = f"{sound} of {len(files)} sound, {written} written"
            print(f"{run.__name__:>6}: {took:.2f} s, CPU {used:.2f} s, {counts}", file=sys.stderr)
            least[run.__name__] = min(used, least.get(run.__name__, used))
            best[run.__name__] = min(took, best.get(run.__name__, took))
            shutil.rmtree(target)
    print(
        f"{len(files)} photos, {cores()} cores: fastai {best['theirs']:.2f} s, "
        f"ours {best['ours']:.2f} s, ratio {best['theirs'] / best['ours']:.2f}; "
        f"of CPU {least['theirs'] / least['ours']:.2f}"
    )


if __name__ == "__main__":
    main()
