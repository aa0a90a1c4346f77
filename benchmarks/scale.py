"""How long 25,000 pictures take: each stage, DVC's own hashing, and files against packed shards.

    python benchmarks/scale.py FOLDER                    # draws the pictures and measures, an hour or two
    python benchmarks/scale.py FOLDER --minutes 9        # begins no step later than that; run again to go on
    python benchmarks/scale.py FOLDER --report           # prints the tables

FOLDER keeps pictures, a project, and results.json with what has been measured. A step's memory is the highest sum over
its processes of what is theirs alone (RssAnon): mapped files do not count, because the kernel can drop them. It is read
ten times a second. Models are trained as params.yaml says but for one epoch of the whole model instead of several, so
that a stage's time without it, and with any number of them, can be told from the progress bars in log.txt.
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
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pawprint.params import load_yaml
from tests.project import Project

CLASSES = 10
AFTER_SPLIT = (
    "baseline",
    "lr_find",
    "show_batch",
    "train",
    "interpret",
    "clean",
    "retrain",
    "evaluate",
    "export",
)
SIDES = range(160, 257, 32)
PART = 1000
# Files as they are; SHARDS zips; or one array, decoded to SIDE pixels.
LAYOUTS, SHARDS, SIDE = ("files", "shards", "npy"), 25, 128


def draw(folder: Path, first: int, last: int) -> None:
    """Pictures `first` to `last`: a class has its colour, a picture its own pattern and size."""
    for i in range(first, last):
        noise = np.random.default_rng(i)
        colour = Image.new(
            "RGB",
            (256, 256),
            tuple(np.random.default_rng(i % CLASSES).integers(0, 256, 3).tolist()),
        )
        blocks = Image.fromarray(noise.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(
            (256, 256)
        )
        side = int(noise.choice(SIDES))
        Image.blend(colour, blocks, 0.5).resize((256, side)).save(
            folder / f"class{i % CLASSES}/{i:06}.jpg", quality=85
        )


def draw_all(folder: Path, count: int) -> None:
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
    chunks = range(0, count, 500)
    with ProcessPoolExecutor() as pool:
        for job in [pool.submit(draw, folder, i, min(i + 500, count)) for i in chunks]:
            job.result()


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(*command: str, cwd: Path) -> dict[str, float]:
    """Run a command that must succeed: seconds on the clock and of CPU, and MB of memory at its peak."""
    before, begin, peak = os.times(), time.perf_counter(), 0
    with open(cwd.parent / "log.txt", "ab") as log:
        process = subprocess.Popen(command, cwd=cwd, env=environment(), stdout=log, stderr=log)
        while process.poll() is None:
            peak = max(peak, sum(anonymous(pid) for pid in family(process.pid)))
            time.sleep(0.1)
    after = os.times()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed; see {cwd.parent / 'log.txt'}")
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return {
        "seconds": round(time.perf_counter() - begin, 1),
        "cpu": round(cpu, 1),
        "mb": round(peak / 1024),
    }


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in family(int(child)))]


def anonymous(pid: int) -> int:
    """Kilobytes of memory that only this process holds."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


class Scale:
    """The steps, in order. What results.json already holds is not measured again."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder.resolve(), count
        self.pictures, self.project = self.folder / "pictures", self.folder / "project"
        self.results = self.folder / "results.json"

    def steps(self) -> dict[str, Callable[[], dict[str, float]]]:
        stage = lambda name: lambda: self.stage(name)  # noqa: E731
        dvc = lambda *words: lambda: run("dvc", *words, cwd=self.project)  # noqa: E731
        steps: dict[str, Callable[[], dict[str, float]]] = {"draw": self.prepare}
        for name in ("gather", "verify", "split"):
            steps[f"stage {name}"] = stage(name)
            steps[f"dvc commit {name}"] = dvc("commit", "--force", name)
        steps |= {
            "dvc status": dvc("status", "split"),
            "no-op repro": dvc("repro", "split"),
            "dvc push": dvc("push", "verify"),
            "no-op push": dvc("push", "verify"),
            "checkout images, copied": lambda: self.checkout("copy"),
            "checkout images, hard links": lambda: self.checkout("hardlink"),
        }
        for layout in LAYOUTS:
            steps[f"{layout}: pack"] = lambda layout=layout: self.pack(layout)
            for what in ("add", "no-op status", "push", "one changed: add", "one changed: push"):
                steps[f"{layout}: {what}"] = lambda layout=layout, what=what: self.store(
                    layout, what
                )
            steps[f"{layout}: read all"] = lambda layout=layout: self.read(layout)
        steps[f"stage train, on {PART} pictures"] = self.train
        return steps | {f"stage {name}": stage(name) for name in AFTER_SPLIT}

    def measure(self, minutes: float) -> None:
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

    def prepare(self) -> dict[str, float]:
        shutil.rmtree(self.folder / "project", ignore_errors=True)
        shutil.rmtree(self.pictures, ignore_errors=True)
        begin = time.perf_counter()
        draw_all(self.pictures, self.count)
        seconds = round(time.perf_counter() - begin, 1)
        project = Project(self.project)
        project.edit(
            **{"gather.source": "folder", "gather.path": str(self.pictures), "train.epochs": 1}
        )
        self.start_dvc(self.project)
        return {
            "seconds": seconds,
            "mb": 0,
            "bytes": sum(path.stat().st_size for path in self.pictures.rglob("*.jpg")),
        }

    def start_dvc(self, home: Path) -> None:
        (home / ".dvc").mkdir(parents=True)
        near = f"['remote \"near\"']\n    url = {home}/remote\n"
        (home / ".dvc/config").write_text(
            f"[core]\n    no_scm = true\n    analytics = false\n    remote = near\n{near}"
        )

    def checkout(self, link: str) -> dict[str, float]:
        run("dvc", "config", "cache.type", link, cwd=self.project)
        shutil.rmtree(self.project / "data/images")
        return run("dvc", "checkout", "verify", cwd=self.project)

    def stage(self, name: str) -> dict[str, float]:
        """A stage's command, without DVC."""
        command = load_yaml(self.project / "dvc.yaml")["stages"][name]["cmd"]
        return run(*shlex.split(command), cwd=self.project)

    def train(self) -> dict[str, float]:
        """Training on every so manieth picture, to see what memory and time grow with."""
        header, *lines = (self.project / "data/split.csv").read_text().splitlines()
        part = lines[:: max(1, self.count // PART)]
        (self.project / "data/part.csv").write_text("\n".join([header, *part, ""]))
        words = [
            "--table",
            "data/part.csv",
            "--model",
            "models/part.safetensors",
            "--metrics",
            "metrics/part",
        ]
        return run("python", "-m", "stages.train", *words, cwd=self.project)

    def layout(self, name: str) -> Path:
        return self.folder / f"layout-{name}"

    def pack(self, name: str) -> dict[str, float]:
        """The verified pictures in a project of their own, as LAYOUTS says."""
        home = self.layout(name)
        shutil.rmtree(home, ignore_errors=True)
        self.start_dvc(home)
        begin = time.perf_counter()
        files, images = self.files(), home / "images"
        if name == "files":
            shutil.copytree(self.project / "data/images", images)
        elif name == "shards":
            images.mkdir()
            for n in range(SHARDS):
                with zipfile.ZipFile(images / f"{n:02}.zip", "w", zipfile.ZIP_STORED) as archive:
                    for file in files[n::SHARDS]:
                        archive.write(file, file.name)
        else:
            images.mkdir()
            packed = np.lib.format.open_memmap(
                images / "all.npy", "w+", np.uint8, (len(files), SIDE, SIDE, 3)
            )
            for i, file in enumerate(files):
                packed[i] = np.asarray(Image.open(file).resize((SIDE, SIDE)))
            packed.flush()
        size = sum(path.stat().st_size for path in images.rglob("*") if path.is_file())
        return {"seconds": round(time.perf_counter() - begin, 1), "mb": 0, "bytes": size}

    def files(self) -> list[Path]:
        return sorted((self.project / "data/images").rglob("*.jpg"))

    def store(self, name: str, what: str) -> dict[str, float]:
        home = self.layout(name)
        if what == "one changed: add":
            self.change_one(name)
        words = {"add": ["add", "images"], "no-op status": ["status"], "push": ["push"]}[
            what.removeprefix("one changed: ")
        ]
        before = self.stored(home)
        result = run("dvc", *words, cwd=home)
        return result | ({"bytes": self.stored(home) - before} if words == ["push"] else {})

    def stored(self, home: Path) -> int:
        return sum(path.stat().st_size for path in (home / "remote").rglob("*") if path.is_file())

    def change_one(self, name: str) -> None:
        """Another picture for one of them."""
        path = self.layout(name) / "images"
        buffer = io.BytesIO()
        Image.new("RGB", (200, 200), "red").save(buffer, "JPEG")
        if name == "files":
            min(path.rglob("*.jpg")).write_bytes(buffer.getvalue())
        elif name == "shards":
            with zipfile.ZipFile(path / "00.zip", "a") as archive:
                archive.writestr("another.jpg", buffer.getvalue())
        else:
            np.lib.format.open_memmap(path / "all.npy", "r+")[0] = 0

    def read(self, name: str) -> dict[str, float]:
        """Every picture decoded to SIDE pixels, one after another; the .npy has them so."""
        path = self.layout(name) / "images"
        decode = f"np.asarray(Image.open({{}}).resize(({SIDE}, {SIDE})))"
        code = {
            "files": f"for f in sorted(p.rglob('*.jpg')): {decode.format('f')}",
            "shards": "for f in sorted(p.iterdir()):\n z = zipfile.ZipFile(f)\n for n in z.namelist(): "
            + decode.format("io.BytesIO(z.read(n))"),
            "npy": "a = np.load(p / 'all.npy', mmap_mode='r')\nfor i in range(len(a)): np.array(a[i])",
        }[name]
        head = "import io, zipfile\nfrom pathlib import Path\nimport numpy as np\nfrom PIL import Image\n"
        return run(
            sys.executable, "-c", f"{head}p = Path({str(path)!r})\n{code}", cwd=self.layout(name)
        )

    def report(self) -> str:
        done = json.loads(self.results.read_text())
        lines = [
            "| step | seconds | CPU seconds | MB of memory | MB written |",
            "|---|---|---|---|---|",
        ]
        for name, row in done.items():
            size = f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else ""
            lines.append(
                f"| {name} | {row['seconds']} | {row.get('cpu', '')} | {row['mb'] or ''} | {size} |"
            )
        return "\n".join(lines)


def main() -> None:
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


if __name__ == "__main__":
    main()
