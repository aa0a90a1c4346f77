"""Gather a lesson's data into data/raw, and write down in data/gathered.csv what came.

    python ../gather.py adult.csv    # in a lesson's folder; the files and folders that it reads

`gather.source` in the lesson's params.yaml names where they come from:

- sample.py: drawn or made here, without a network; `draw(size, seed)` yields names and bytes.
- archive.yaml: an archive on the web; the file has its address, its size and its hash.
- any other path: your own folder of the same files, or your own file in the place of the only one.

data/gathered.csv is the lock, in git: every file with its size and SHA-256. While it belongs to
archive.yaml, exactly its files are fetched again, and one that has changed is an error.
"""

import contextlib
import hashlib
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from pawprint.params import Params, StageError, check, load_params, load_yaml, run_stage
from pawprint.sources import PARTIAL
from pawprint.sources.archive import ArchiveOptions, check_sums, fetch_archive, open_archive
from pawprint.sources.download import Downloader, DownloadParams
from pawprint.sources.names import Md5, Sha256, check_path_text, is_hidden
from pawprint.sources.store import has_content
from pawprint.tables import parse_rows, to_csv, write_bytes
from pawprint.watch import Watch

RAW, LOCK = Path("data/raw"), Path("data/gathered.csv")
SAMPLE, ARCHIVE = Path("sample.py"), Path("archive.yaml")
HEADER = ("path", "bytes", "sha256", "source")
HASHED = 1 << 20  # fast.ai publishes the MD5 of the first mebibyte

File = tuple[str, bytes]  # its name, and its content
Lock = dict[str, tuple[str, str, str]]  # by name: bytes, sha256, source


class GatherParams(Params):
    """The section `gather` of a lesson's params.yaml. size, seed: of the sample."""

    source: Annotated[str, AfterValidator(check_path_text)]
    size: int = Field(ge=8, le=1_000_000)
    seed: int = Field(ge=0)
    allow_private: bool = False


class ArchiveYaml(Params):
    """archive.yaml: an archive, or a single file, on the web.

    archive: its address. folder: the one inside it that holds the lesson's files. bytes: its size;
    md5_of_first_mib: the MD5 of its first 1,048,576 bytes; sha256: of all of it, if known.
    """

    archive: Annotated[str, AfterValidator(check_path_text)]
    folder: str = ""
    bytes: int = Field(ge=1)
    md5_of_first_mib: Md5 = ""
    sha256: Sha256 = ""


def main() -> None:
    params = load_params("gather", GatherParams)
    wanted, source = sys.argv[1:], Path(params.source)
    watch = Watch(source)

    # the files, from one of three sources
    digest = hashlib.sha256(source.read_bytes() if source.is_file() else b"").hexdigest()
    key, lock = f"{source.name}:{digest[:12]}", read_lock()
    pinned = source == ARCHIVE and {row[2] for row in lock.values()} == {key}
    if pinned and all(has_content(RAW / name, row[1]) for name, row in lock.items()):
        files = [(name, (RAW / name).read_bytes()) for name in lock]
    elif source == ARCHIVE:
        files = list(from_archive(params.allow_private, wanted))
    elif source == SAMPLE:
        files = list(load_sample()(params.size, params.seed))
    else:
        files = list(from_disk(source, wanted))

    # they are all there, and what the lock says
    for each in wanted:
        if not any(belongs(name, [each]) for name, _ in files):
            raise StageError(f"{source} holds no {each}, which this lesson reads")
    found = {
        name: (str(len(content)), hashlib.sha256(content).hexdigest(), key)
        for name, content in sorted(files)
    }
    if pinned and found != lock:
        refuse_change(found, lock)

    # make data/raw hold these alone
    store(files)
    rows = [(name, *row) for name, row in found.items()]
    write_bytes(LOCK, to_csv(HEADER, rows), durable=True)
    shutil.rmtree(PARTIAL, ignore_errors=True)
    watch.refuse_changes()


def belongs(name: str, wanted: list[str]) -> bool:
    """Return whether a file is one of the wanted ones, or lies in a wanted folder."""
    return any(name == each or name.startswith(f"{each}/") for each in wanted)


def load_sample() -> Callable[[int, int], Iterator[File]]:
    """Return the function `draw` of the lesson's sample.py."""
    spec = importlib.util.spec_from_file_location("sample", SAMPLE)
    if spec is None or spec.loader is None or not SAMPLE.is_file():
        raise StageError(f"{SAMPLE} is missing: restore it with `git checkout {SAMPLE}`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.draw


def from_archive(allow_private: bool, wanted: list[str]) -> Iterator[File]:
    """Yield the wanted files of the archive that archive.yaml names.

    Raises StageError if it cannot be fetched, is not the one expected, is damaged or is hostile.
    """
    about = check(load_yaml(ARCHIVE), ArchiveYaml, "", ARCHIVE)
    options = ArchiveOptions(
        kind="archive",
        archive=about.archive,
        sha256=about.sha256,
        max_bytes=about.bytes,
        max_unpacked=100 * about.bytes + (1 << 20),
    )
    path = Path(about.archive)
    try:
        if "://" in about.archive:
            with Downloader(DownloadParams(), allow_private) as downloader:
                path = fetch_archive(options, downloader)
        if not path.is_file():
            raise StageError(f"{ARCHIVE}: {path} is missing; put it there, or give an address")
        check_sums(path, options)
        check_start(path, about)
        yield from read_archive(path, options, about, wanted)
    finally:
        if path.is_relative_to(PARTIAL):
            path.unlink(missing_ok=True)


def read_archive(
    path: Path, options: ArchiveOptions, about: ArchiveYaml, wanted: list[str]
) -> Iterator[File]:
    """Yield the wanted files of an archive; or the file itself, if it is of the wanted kind."""
    if PurePosixPath(about.archive).suffix == PurePosixPath(wanted[0]).suffix:
        yield wanted[0], path.read_bytes()
        return
    with contextlib.ExitStack() as stack:
        for member in open_archive(path, options, stack):
            inside = PurePosixPath(member.name)
            if not inside.is_relative_to(about.folder) or is_hidden(member.name):
                continue
            name = inside.relative_to(about.folder).as_posix()
            if belongs(name, wanted):
                try:
                    yield name, member.read()
                except OSError as error:
                    raise StageError(f"{about.archive}: {member.name!r}: {error}") from None


def check_start(path: Path, about: ArchiveYaml) -> None:
    """Raise StageError if the archive has another size, or begins otherwise, than expected."""
    with path.open("rb") as file:
        found = path.stat().st_size, hashlib.md5(file.read(HASHED)).hexdigest()
    expected = about.bytes, about.md5_of_first_mib or found[1]
    if found != expected:
        raise StageError(
            f"{about.archive} has {found[0]} bytes and the MD5 {found[1]} at its start; {ARCHIVE} "
            f"says {expected[0]} and {expected[1]}; fetch it again, or correct {ARCHIVE}"
        )


def from_disk(source: Path, wanted: list[str]) -> Iterator[File]:
    """Yield the wanted files of a folder, or a file in the place of the only wanted one.

    Raises StageError if there is no such path, or a file is not of the kind that is wanted.
    """
    if source.is_dir():
        if Path("data").resolve() in (source.resolve(), *source.resolve().parents):
            raise StageError(f"gather.source is {source}, which the pipeline writes; name another")
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            name = path.relative_to(source).as_posix()
            if belongs(name, wanted) and not is_hidden(name):
                yield name, path.read_bytes()
        return
    if not source.is_file():
        raise StageError(
            f"gather.source is {source}, which does not exist; it should be {SAMPLE}, {ARCHIVE}, "
            f"or a path of your own with {', '.join(wanted)}"
        )
    if len(wanted) > 1 or source.suffix.lower() != PurePosixPath(wanted[0]).suffix:
        raise StageError(
            f"gather.source is {source}; it should be {SAMPLE}, {ARCHIVE}, or a path of your own "
            f"with {', '.join(wanted)}; an archive of your own goes into {ARCHIVE}"
        )
    yield wanted[0], source.read_bytes()


def read_lock() -> Lock:
    """Return the lock; nothing if it is absent. Raises StageError if it is not understood."""
    if not LOCK.exists():
        return {}
    table = parse_rows(LOCK.read_bytes(), str(LOCK))
    if tuple(table.header) != HEADER:
        raise StageError(
            f"{LOCK}, line 1: should be {','.join(HEADER)!r}; restore it with `git checkout`, or "
            "delete it to gather again"
        )
    return {name: (size, sha256, source) for name, size, sha256, source in table.rows}


def refuse_change(found: Lock, lock: Lock) -> None:
    """Raise StageError that names the first file which is not as the lock says."""
    name = next(name for name in sorted({*found, *lock}) if found.get(name) != lock.get(name))
    was, now = lock.get(name, ("", "absent", "")), found.get(name, ("", "absent", ""))
    raise StageError(
        f"{LOCK}: {name} has changed on the web: its sha256 was {was[1]}, and is {now[1]}; delete "
        f"{LOCK} to take the archive as it is now"
    )


def store(files: list[File]) -> None:
    """Write the files to data/raw, and remove all others there.

    Raises StageError for a name that cannot be a file, or if the disk is full.
    """
    names = {name for name, _ in files}
    for path in sorted(RAW.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()
        elif path.relative_to(RAW).as_posix() not in names:
            path.unlink()
    for name, content in files:
        try:
            write_bytes(RAW / name, content)
        except OSError as error:
            raise StageError(f"{RAW / name} cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    run_stage(main)
