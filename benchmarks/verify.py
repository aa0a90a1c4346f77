"""How long fast.ai's verify_images + resize_images(max_size=400) and our verify take over the same photos, in one run.

    python benchmarks/verify.py FOLDER    # a folder with a folder of pictures for each class

Both run on all cores this process may use, both are measured from the call to the last file written, imports and the
reading of tables not counted. Ours decodes once, keeps 4:2:0 JPEGs and computes a perceptual hash besides. The order
alternates, so that neither always finds the other's files in the cache; the best of each is compared. Where others use
the machine too, the ratio of CPU seconds is the steadier figure.
fastai is needed here and nowhere else: `pip install fastai`, best into an environment of its own.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

try:
    from fastai.vision.utils import resize_images, verify_images
except ImportError as error:
    sys.exit(
        f"benchmarks/verify.py compares with fastai, which cannot be imported ({error}): pip install fastai"
    )

from stages import verify


def theirs(files: list[Path], folder: Path, target: Path) -> int:
    failed = {Path(path) for path in verify_images(files)}
    for each in sorted({path.parent for path in files}):
        resize_images(each, max_size=400, dest=target / each.name)
    return len(files) - len(failed)


def ours(files: list[Path], folder: Path, target: Path) -> int:
    params = verify.VerifyParams(max_size=400, min_size=32, quality=90, max_pixels=100_000_000)
    verify.IMAGES = target
    rows = []
    for path in files:
        (target / path.parent.name).mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(str(path).encode()).hexdigest()
        rows.append({"path": str(path), "label": path.parent.name, "sha256": name})
    return sum("reason" not in result for result in verify.convert_all(rows, params))


def cpu() -> float:
    """Seconds of CPU that this process and its ended children have used."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.folder.glob("*/*") if path.is_file())
    best: dict[str, float] = {}
    least: dict[str, float] = {}
    for number in range(arguments.rounds):
        for run in (theirs, ours) if number % 2 else (ours, theirs):
            target = Path(tempfile.mkdtemp())
            started, used = time.perf_counter(), cpu()
            sound = run(files, arguments.folder, target)
            took, used = time.perf_counter() - started, cpu() - used
            written = sum(path.is_file() for path in target.rglob("*"))
            print(
                f"{run.__name__:>6}: {took:.2f} s, {sound} of {len(files)} sound, {written} written",
                file=sys.stderr,
            )
            least[run.__name__] = min(used, least.get(run.__name__, used))
            best[run.__name__] = min(took, best.get(run.__name__, took))
            shutil.rmtree(target)
    print(
        f"{len(files)} photos, {verify.cores()} cores: fastai {best['theirs']:.2f} s, ours {best['ours']:.2f} s, "
        f"ratio {best['theirs'] / best['ours']:.2f}; of CPU {least['theirs'] / least['ours']:.2f}"
    )


if __name__ == "__main__":
    main()
