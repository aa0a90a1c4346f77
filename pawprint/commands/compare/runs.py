"""The experiments of `pawprint compare`: one after the other, or side by side on a Ray cluster.

Each has a clone of the repository, with what is not committed yet, and DVC's cache in common with
the project; at the end its experiment is fetched from the clone. In one folder, DVC locks out a
second experiment while a first begins or ends, and of two that begin together one may run both.
Side by side, each has DVC's run cache to itself: a DVC that looks up a stage there takes an entry
which another is writing for damaged, and deletes it.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pawprint.compute.choice import WORKERS
from pawprint.compute.engine import CHOICE
from pawprint.params import StageError

FROM = ("split", "features")  # the stages with which experiments begin
RUNS = "runs"  # the folder of DVC's run cache in its cache


@dataclass(frozen=True)
class Origin:
    """What the clones are made from, as it was when the comparison began."""

    root: str  # of the git repository
    project: str  # the project's folder in it
    head: str
    changes: str  # a commit of what is not committed, or ""
    config: tuple[str, ...]  # options of git clone
    cache: str  # DVC's


def name_of(arch: str, seed: int | None = None) -> str:
    """Return the name of an architecture's experiment; git allows few characters in it."""
    name = "compare-" + re.sub(r"[^A-Za-z0-9_-]", "-", arch)
    return name if seed is None else f"{name}-seed{seed}"


def ref_of(head: str, name: str) -> str:
    """Return where git keeps an experiment that began at the commit `head`."""
    return f"refs/exps/{head[:2]}/{head[2:]}/{name}"


def run_experiments(
    archs: list[str], seeds: Sequence[int | None], together: int = 1, on_cluster: bool = False
) -> dict[str, str]:
    """Run all experiments, `together` at a time; return why architectures failed, by name.

    One that has failed with a seed is not run with the next: a mean over fewer seeds would not
    compare with the others'. Exits with one line if git cannot clone, or from the keyboard.
    """
    origin = find_origin()
    failed: dict[str, str] = {}

    def run(arch: str, seed: int | None) -> None:
        if arch in failed:
            return
        reason = run_experiment(origin, arch, seed, on_cluster)
        if reason:
            reason = reason if seed is None else f"{reason} (train.seed {seed})"
            failed.setdefault(arch, reason)

    for arch in archs:
        for seed in seeds:
            git("update-ref", "-d", ref_of(origin.head, name_of(arch, seed)))
    pool = ThreadPoolExecutor(together)
    try:
        for future in [pool.submit(run, arch, seed) for arch in archs for seed in seeds]:
            future.result()
    except KeyboardInterrupt:  # which has stopped DVC too
        sys.exit("pawprint: stopped from the keyboard; no table is written")
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def find_origin() -> Origin:
    """Return what experiments start from. Exits with one line if git cannot say."""
    changes = git("stash", "create")
    if changes.returncode:
        sys.exit(f"pawprint: git cannot copy what is not committed: {last_line(changes.stderr)}")
    names = {key: git("config", key).stdout.strip() for key in ("user.name", "user.email")}
    config = [f"--config={key}={name}" for key, name in names.items() if name]
    return Origin(
        root=git("rev-parse", "--show-toplevel").stdout.strip(),
        project=git("rev-parse", "--show-prefix").stdout.strip(),
        head=git("rev-parse", "HEAD").stdout.strip(),
        changes=changes.stdout.strip(),
        config=tuple(config),
        cache=dvc("cache", "dir").stdout.strip(),
    )


@contextlib.contextmanager
def clone(origin: Origin, beside_others: bool) -> Iterator[Path]:
    """Clone the repository for a while; yield the project's folder in it.

    The clone lies where DVC's own temporary files do, so that files can be links to the cache.
    beside_others: whether other clones are used meanwhile. Raises StageError with git's line if
    that fails.
    """
    Path(".dvc/tmp").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="compare-", dir=".dvc/tmp") as folder:
        steps = [["clone", "--quiet", "--shared", *origin.config, origin.root, folder]]
        if origin.changes:
            steps.append(["-C", folder, "stash", "apply", "--quiet", origin.changes])
        for step in steps:
            done = git(*step)
            if done.returncode:
                raise StageError(f"git cannot clone the project: {last_line(done.stderr)}")
        project = Path(folder, origin.project)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(".dvc/config.local", project / ".dvc/config.local")
        shared = Path(origin.cache)
        with own_runs(shared, Path(folder)) if beside_others else nullcontext(shared) as cache:
            done = dvc("cache", "dir", "--local", str(cache), folder=project)
            if done.returncode:
                raise StageError(f"dvc cannot share its cache: {last_line(done.stderr)}")
            yield project


@contextlib.contextmanager
def own_runs(shared: Path, folder: Path) -> Iterator[Path]:
    """Yield a cache that holds what `shared` does, and whose run cache is a copy.

    It lies in a clone's `folder`. At the end, what is new in its run cache is added to that of
    `shared`, each entry at once.
    """
    own = (folder / ".git/cache").resolve()
    own.mkdir()
    (shared / "files").mkdir(parents=True, exist_ok=True)
    for part in shared.iterdir():
        if part.name == RUNS:
            shutil.copytree(part, own / RUNS)
        else:
            (own / part.name).symlink_to(part, target_is_directory=part.is_dir())
    try:
        yield own
    finally:
        half = shared / f"{folder.name}.partial"  # no other clone's, and outside the run cache
        for entry in own.glob(f"{RUNS}/*/*/*"):
            place = shared / entry.relative_to(own)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(entry, half)
                os.replace(half, place)


def run_experiment(origin: Origin, arch: str, seed: int | None, on_cluster: bool) -> str:
    """Run what follows verify with this architecture; return why it failed, or "".

    seed: `train.seed`; None for that of params.yaml. on_cluster: with one worker, beside others, so
    that only the names of its stages are printed.

    Gather and verify do not run: the temporary folder holds what git and DVC's cache hold, not the
    pictures they began with.
    """
    name = name_of(arch, seed)
    changes = ["--set-param", f"train.arch={arch}"]
    if seed is not None:
        changes += ["--set-param", f"train.seed={seed}"]
    command = dvc_command("exp", "run", "--temp", "--name", name, *changes, "--downstream", *FROM)
    try:
        with clone(origin, beside_others=on_cluster) as folder:
            code, said = follow(command, folder, name if on_cluster else "")
            if code:
                return explain_failure(said)
            ref = ref_of(origin.head, name)
            with fetching:
                done = git("fetch", "--quiet", str(folder), f"+{ref}:{ref}")
            return f"no experiment came of it: {last_line(done.stderr)}" if done.returncode else ""
    except StageError as error:
        return str(error)


fetching = threading.Lock()  # git writes .git/FETCH_HEAD


def follow(command: list[str], folder: Path, name: str) -> tuple[int, str]:
    """Run a command in a folder; return its exit code, and the end of what it printed.

    name: of an experiment on the cluster, of which only the stages are printed here; "": all is.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment() | ({CHOICE: "ray", WORKERS: "1"} if name else {}),
        bufsize=0,
    )
    assert process.stdout is not None
    said = b""
    while chunk := os.read(process.stdout.fileno(), 1 << 16):
        if not name:
            sys.stderr.buffer.write(chunk)
            sys.stderr.flush()
        for stage in re.findall(rb"Running stage '(\w+)'", chunk) if name else ():
            print(f"{name}: {stage.decode()}", file=sys.stderr, flush=True)
        said = (said + chunk)[-50_000:]
    return process.wait(), said.decode("utf-8", "replace")


def explain_failure(said: str) -> str:
    """Return the line in what a failed experiment printed that says why.

    It is the failed stage's own line, if there is one, else DVC's.
    """
    lines = [line.strip() for line in said.replace("\r", "\n").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    errors = errors or lines or ["dvc ended without a word"]
    stage = re.search(r"python -m stages\.(\w+)", " ".join(errors))
    own = [line for line in lines if stage and line.startswith(f"{stage[1]}: ")]
    crash = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (own or crash or errors)[-1]


def last_line(text: str) -> str:
    """Return the last line of what a program says, or that it says nothing."""
    return text.strip().rpartition("\n")[2] or "it does not say why"


def environment() -> dict[str, str]:
    """Return the environment with this interpreter's own commands first on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path}


def dvc_command(*arguments: str) -> list[str]:
    """Return the command line of DVC with these arguments."""
    return [sys.executable, "-m", "dvc", *arguments]


def dvc(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run DVC, in this folder or in another, and wait for it."""
    return subprocess.run(
        dvc_command(*arguments), cwd=folder, text=True, env=environment(), capture_output=True
    )


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git and wait for it. Exits with one line if there is no git."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit("pawprint: git is not installed; experiments need it")
