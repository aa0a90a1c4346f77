"""Measure 25,000 pictures: every stage, DVC's own hashing, and files beside packed shards.

    python -m benchmarks.scale FOLDER                # draws the pictures and measures: 1 to 2 hours
    python -m benchmarks.scale FOLDER --minutes 9    # starts no step after that; run again to go on
    python -m benchmarks.scale FOLDER --report       # prints the table of what is measured

FOLDER keeps the pictures, a project, and results.json with what has been measured. The memory of a
step is the highest sum, over its processes, of what is theirs alone (RssAnon), read ten times a
second; mapped files do not count, because the kernel can drop them. Models are trained as
params.yaml says, except for one epoch of the whole model instead of several: the progress bars in
log.txt tell the time of that epoch, from which the time of any number follows.
"""

import argparse
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.project import ROOT, ProjectCopy
from pawprint.params import load_yaml

CLASSES = 10
HEIGHTS = range(160, 257, 32)
UP_TO_SPLIT = ("gather", "verify", "split")
PIPELINE = load_yaml(ROOT / "dvc.yaml")["stages"]
AFTER_SPLIT = tuple(name for name in PIPELINE if name not in UP_TO_SPLIT)
PART = 1000  # pictures of the smaller training
LAYOUTS = ("files", "shards", "npy")  # as they are; SHARDS zips; one array, decoded to SIDE pixels
SHARDS = 25
SIDE = 128

Figures = dict[str, float]


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=25_000)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    scale = Scale(arguments.folder, arguments.pictures)
    if not arguments.report:
        scale.measure(arguments.minutes)
    print(scale.report())


class Scale:
    """The steps, in order. What results.json already holds is not measured again."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder.resolve(), count
        self.pictures, self.project = self.folder / "pictures", self.folder / "project"
        self.results = self.folder / "results.json"

    def steps(self) -> dict[str, Callable[[], Figures]]:
        """Return what to call for each step."""
        steps: dict[str, Callable[[], Figures]] = {"draw": self.prepare}
        for name in UP_TO_SPLIT:
            steps[f"stage {name}"] = partial(self.stage, name)
            steps[f"dvc commit {name}"] = partial(self.dvc, "commit", "--force", name)
        steps |= {
            "dvc status": partial(self.dvc, "status", "split"),
            "no-op repro": partial(self.dvc, "repro", "split"),
            "dvc push": partial(self.dvc, "push", "verify"),
            "no-op push": partial(self.dvc, "push", "verify"),
            "checkout images, copied": partial(self.checkout, "copy"),
            "checkout images, hard links": partial(self.checkout, "hardlink"),
        }
        for name in LAYOUTS:
            layout = Layout(name, self.folder / f"layout-{name}", self.project / "data/images")
            steps |= {f"{name}: {what}": step for what, step in layout.steps().items()}
        steps |= {f"stage {name}": partial(self.stage, name) for name in AFTER_SPLIT}
        steps[f"stage train, on {PART} pictures"] = self.train_on_part
        return steps

    def measure(self, minutes: float) -> None:
        """Do the steps that are not done yet; start none after so many minutes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        done = json.loads(self.results.read_text()) if self.results.is_file() else {}
        begin = time.monotonic()
        for name, step in self.steps().items():
            if name in done:
                continue
            if time.monotonic() - begin > 60 * minutes:
                print("time is up; run again to go on")
                return
            done[name] = step()
            print(name, done[name], flush=True)
            self.results.write_text(json.dumps(done, indent=1))

    def prepare(self) -> Figures:
        """Draw the pictures, and make a project that gathers them."""
        for folder in (self.project, self.pictures):
            shutil.rmtree(folder, ignore_errors=True)
        begin = time.perf_counter()
        draw_all(self.pictures, self.count)
        seconds = round(time.perf_counter() - begin, 1)
        project = ProjectCopy(self.project)
        project.edit(**{"gather.source": "folder", "gather.path": str(self.pictures)})
        project.edit(**{"train.epochs": 1})
        start_dvc(self.project)
        return {"seconds": seconds, "mb": 0, "bytes": bytes_in(self.pictures)}

    def dvc(self, *words: str) -> Figures:
        """Run DVC in the project."""
        return run("dvc", *words, cwd=self.project)

    def stage(self, name: str) -> Figures:
        """Run a stage's command, without DVC."""
        command = load_yaml(self.project / "dvc.yaml")["stages"][name]["cmd"]
        return run(*shlex.split(command), cwd=self.project)

    def checkout(self, link: str) -> Figures:
        """Remove the verified pictures, and have DVC bring them back."""
        self.dvc("config", "cache.type", link)
        shutil.rmtree(self.project / "data/images")
        return self.dvc("checkout", "verify")

    def train_on_part(self) -> Figures:
        """Train on PART evenly spaced pictures, to see what memory and time grow with."""
        header, *lines = (self.project / "data/split.csv").read_text().splitlines()
        part = lines[:: max(1, self.count // PART)]
        (self.project / "data/part.csv").write_text("\n".join([header, *part, ""]))
        outs = "--table data/part.csv --model models/part.safetensors --metrics metrics/part"
        return run("python", "-m", "stages.train", *outs.split(), cwd=self.project)

    def report(self) -> str:
        """Return what is measured, as a Markdown table."""
        done = json.loads(self.results.read_text())
        lines = [
            "| step | seconds | CPU seconds | MB of memory | MB written |",
            "|---|---|---|---|---|",
        ]
        for name, row in done.items():
            size = f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else ""
            figures = f"{row['seconds']} | {row.get('cpu', '')} | {row['mb'] or ''} | {size}"
            lines.append(f"| {name} | {figures} |")
        return "\n".join(lines)


class Layout:
    """The verified pictures stored in one way, in a DVC project of its own."""

    def __init__(self, name: str, home: Path, verified: Path) -> None:
        self.name, self.home, self.verified = name, home, verified
        self.images = home / "images"

    def steps(self) -> dict[str, Callable[[], Figures]]:
        """Return what to call for each step, in order."""
        return {
            "pack": self.pack,
            "add": partial(run, "dvc", "add", "images", cwd=self.home),
            "no-op status": partial(run, "dvc", "status", cwd=self.home),
            "push": self.push,
            "one changed: add": self.add_changed,
            "one changed: push": self.push,
            "read all": self.read,
        }

    def pack(self) -> Figures:
        """Store the pictures as the layout says."""
        shutil.rmtree(self.home, ignore_errors=True)
        start_dvc(self.home)
        begin = time.perf_counter()
        files = sorted(self.verified.rglob("*.jpg"))
        if self.name == "files":
            shutil.copytree(self.verified, self.images)
        elif self.name == "shards":
            self.images.mkdir()
            for n in range(SHARDS):
                with zipfile.ZipFile(self.images / f"{n:02}.zip", "w") as archive:
                    for file in files[n::SHARDS]:
                        archive.write(file, file.name)
        else:
            self.images.mkdir()
            shape = (len(files), SIDE, SIDE, 3)
            packed = np.lib.format.open_memmap(self.images / "all.npy", "w+", np.uint8, shape)
            for i, file in enumerate(files):
                packed[i] = np.asarray(Image.open(file).resize((SIDE, SIDE)))
            packed.flush()
        seconds = round(time.perf_counter() - begin, 1)
        return {"seconds": seconds, "mb": 0, "bytes": bytes_in(self.images)}

    def push(self) -> Figures:
        """Push to a folder; `bytes` are what it has more than before."""
        remote = self.home / "remote"
        before = bytes_in(remote)
        figures = run("dvc", "push", cwd=self.home)
        return figures | {"bytes": bytes_in(remote) - before}

    def add_changed(self) -> Figures:
        """Put another picture in the place of one of them, and add it."""
        buffer = io.BytesIO()
        Image.new("RGB", (200, 200), "red").save(buffer, "JPEG")
        if self.name == "files":
            min(self.images.rglob("*.jpg")).write_bytes(buffer.getvalue())
        elif self.name == "shards":
            with zipfile.ZipFile(self.images / "00.zip", "a") as archive:
                archive.writestr("another.jpg", buffer.getvalue())
        else:
            np.lib.format.open_memmap(self.images / "all.npy", "r+")[0] = 0
        return run("dvc", "add", "images", cwd=self.home)

    def read(self) -> Figures:
        """Decode every picture to SIDE pixels, one after another; the .npy holds them so."""
        decode = f"np.asarray(Image.open({{}}).resize(({SIDE}, {SIDE})))"
        loop = {
            "files": f"for f in sorted(p.rglob('*.jpg')): {decode.format('f')}",
            "shards": "for f in sorted(p.iterdir()):\n z = zipfile.ZipFile(f)\n"
            f" for n in z.namelist(): {decode.format('io.BytesIO(z.read(n))')}",
            "npy": "a = np.load(p / 'all.npy', mmap_mode='r')\n"
            "for i in range(len(a)): np.array(a[i])",
        }[self.name]
        imports = "import io, pathlib, zipfile\nimport numpy as np\nfrom PIL import Image\n"
        code = f"{imports}p = pathlib.Path({str(self.images)!r})\n{loop}"
        return run(sys.executable, "-c", code, cwd=self.home)


def run(*command: str, cwd: Path) -> Figures:
    """Run a command that must succeed; return its seconds, CPU seconds, and peak memory in MB."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    before, begin, peak = os.times(), time.perf_counter(), 0
    with open(cwd.parent / "log.txt", "ab") as log:
        process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, "PATH": path}, stdout=log, stderr=log
        )
        while process.poll() is None:
            peak = max(peak, sum(anonymous(pid) for pid in family(process.pid)))
            time.sleep(0.1)
    seconds, after = time.perf_counter() - begin, os.times()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed; see {cwd.parent / 'log.txt'}")
    user, system = (after[i] - before[i] for i in (2, 3))  # of ended children
    return {"seconds": round(seconds, 1), "cpu": round(user + system, 1), "mb": round(peak / 1024)}


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in family(int(child)))]


def anonymous(pid: int) -> int:
    """Return the kilobytes of memory that only this process holds."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def start_dvc(home: Path) -> None:
    """Make a folder a DVC project without git, with a folder as its remote."""
    (home / ".dvc").mkdir(parents=True)
    (home / ".dvc/config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    remote = near\n"
        f"['remote \"near\"']\n    url = {home}/remote\n"
    )


def draw_all(folder: Path, count: int) -> None:
    """Draw `count` pictures on all cores, into one folder per class."""
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
    starts = range(0, count, 500)
    with ProcessPoolExecutor() as pool:
        jobs = [pool.submit(draw, folder, start, min(start + 500, count)) for start in starts]
        for job in jobs:
            job.result()


def draw(folder: Path, first: int, last: int) -> None:
    """Draw pictures `first` to `last`: one colour per class, one pattern and size per picture."""
    for i in range(first, last):
        random = np.random.default_rng(i)
        red, green, blue = np.random.default_rng(i % CLASSES).integers(0, 256, 3).tolist()
        colour = Image.new("RGB", (256, 256), (red, green, blue))
        pattern = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        blended = Image.blend(colour, pattern.resize((256, 256)), 0.5)
        size = (256, int(random.choice(HEIGHTS)))
        blended.resize(size).save(folder / f"class{i % CLASSES}/{i:06}.jpg", quality=85)


if __name__ == "__main__":
    main()
