"""Source `archive`: pictures in a .tgz, .tar or .zip, at a URL or a path, labelled as the source `folder` does.

Nothing is unpacked under a name of the archive's choosing. Its table of contents is read and judged first, then each
picture's bytes go to gather, which files them under their hash; so a hostile name has nowhere to lead to. An archive
that holds a link, a device, a path outside itself or more than `max_unpacked` bytes is refused whole.
A download that breaks off goes on where it stopped.
"""

import contextlib
import gzip
import hashlib
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import httpx
from pydantic import Field
from tqdm import tqdm

from pawprint.params import StageError
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources import PARTIAL, Found
from pawprint.sources.content import digest
from pawprint.sources.download import REDIRECTS, Downloader, Failure, explain, header, parse
from pawprint.sources.labels import LabelOptions, label_all

Member = tuple[str, int, Callable[[], bytes]]  # name, size, its bytes


class ArchiveOptions(LabelOptions):
    """What data/sources/NAME.yaml may say for `kind: archive`, besides LabelOptions.

    archive: a URL or a path. sha256 or md5: of the whole archive, if known. max_unpacked: bytes that all its files may
    have together; max_member: bytes of one file, which is held in memory.
    """

    kind: Literal["archive"]
    archive: str = Field(min_length=1)
    sha256: str = Field("", pattern="^([0-9a-f]{64})?$")
    md5: str = Field("", pattern="^([0-9a-f]{32})?$")
    max_bytes: int = Field(20_000_000_000, ge=1)
    max_unpacked: int = Field(20_000_000_000, ge=1)
    max_member: int = Field(200_000_000, ge=1)


def found(options: ArchiveOptions, root: Path, downloader: Downloader) -> Iterator[Found]:
    """Yield the archive's pictures in the order of their names; they are read in the archive's order where that is
    dear. `root` is not used: `archive` is relative to the project.

    Raises StageError for an archive that cannot be had, is not the one expected, or is hostile.
    """
    path = fetch(options, downloader) if "://" in options.archive else Path(options.archive)
    if not path.is_file():
        raise StageError(
            f"archive: {path} is missing; put the archive there, or give its URL in the source's yaml"
        )
    check_sums(path, options)
    with contextlib.ExitStack() as stack:
        members = open_archive(path, options, stack)
        table = ""
        if options.labels == "table":
            wanted = [read for name, _, read in members if name == options.table]
            if not wanted:
                raise StageError(f"{path}: it holds no {options.table}, which `table` names")
            table = wanted[0]().decode("utf-8-sig", "replace")
        reads = {name: read for name, _, read in members if looks_like_picture(name)}
        order = {name: number for number, name in enumerate(reads)}
        rows = label_all(sorted(reads), options, table, str(path))
        if not rows:
            raise StageError(
                f"{path}: it holds no pictures under the names that the source's yaml includes"
            )
        # A packed tar can only be read forwards at speed: its own order is the order here.
        for row in sorted(rows, key=lambda row: order.get(row.file, -1)):
            missing = (
                "" if row.file in reads else "the table names it, the archive does not hold it"
            )
            yield Found(row.file, row.label, reads.get(row.file), "", row.split, row.group, missing)


def open_archive(path: Path, options: ArchiveOptions, stack: contextlib.ExitStack) -> list[Member]:
    """The archive's files, judged; they can be read while `stack` is open."""
    try:
        if zipfile.is_zipfile(path):
            return zip_members(stack.enter_context(zipfile.ZipFile(path)), path, options)
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        raw = stack.enter_context(gzip.open(path) if packed else path.open("rb"))  # noqa: SIM115
        limited: Any = Limited(raw, path, options)
        return tar_members(
            stack.enter_context(tarfile.open(fileobj=limited, mode="r:")), path, options
        )
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
    ) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise StageError(
            f"{path} is no .tgz, .tar or .zip that can be read ({why}); fetch it anew"
        ) from None


class Limited:
    """A file that gives at most `max_unpacked` bytes at all and `max_member` at once, headers and padding included.

    tarfile believes the sizes it reads, those of its own extended headers too.
    """

    def __init__(
        self, inner: IO[bytes] | gzip.GzipFile, path: Path, options: ArchiveOptions
    ) -> None:
        self.inner, self.path, self.options = inner, path, options

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self.options.max_member + tarfile.RECORDSIZE:
            raise StageError(
                f"{self.path}: a file in it has {size} bytes; max_member is {self.options.max_member}"
            )
        return self.inner.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        # Headers and padding of small files can double their size, hence twice.
        if place > 2 * self.options.max_unpacked + tarfile.RECORDSIZE:
            raise StageError(
                f"{self.path}: unpacked it has more than max_unpacked, {self.options.max_unpacked} bytes"
            )
        return self.inner.seek(place, whence)

    def tell(self) -> int:
        return self.inner.tell()


def tar_members(archive: tarfile.TarFile, path: Path, options: ArchiveOptions) -> list[Member]:
    members, total = [], 0
    for info in archive:
        name = safe_name(info.name, path)
        if info.issym() or info.islnk():
            raise StageError(
                f"{path}: {info.name} is a link to {info.linkname}; archives with links are not unpacked"
            )
        if not info.isfile() and not info.isdir():
            raise StageError(
                f"{path}: {info.name} is neither a file nor a folder; such archives are not unpacked"
            )
        total = add_size(total, info.name, info.size, path, options)
        if info.isfile():
            members.append((name, info.size, partial(read_tar, archive, info)))
    return members


def read_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    content = file.read(info.size) if file else b""
    if len(content) != info.size:
        raise OSError("the archive is cut short here")
    return content


def zip_members(archive: zipfile.ZipFile, path: Path, options: ArchiveOptions) -> list[Member]:
    members, total = [], 0
    for info in archive.infolist():
        name = safe_name(info.filename, path)
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "link" if stat.S_ISLNK(mode) else "device"
            raise StageError(
                f"{path}: {info.filename} is a {what}; archives with links or devices are not unpacked"
            )
        if info.flag_bits & 1:
            raise StageError(
                f"{path}: {info.filename} is encrypted; unpack it yourself and use kind: folder"
            )
        total = add_size(total, info.filename, info.file_size, path, options)
        if not info.is_dir():
            members.append((name, info.file_size, partial(read_zip, archive, info)))
    return members


def read_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """At most as many bytes as the table of contents says, which was judged."""
    try:
        with archive.open(info) as file:
            return file.read(info.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise OSError(f"broken in the archive: {error}") from None


def safe_name(name: str, path: Path) -> str:
    """A member's name as a relative path with slashes. Raises StageError for one that would lead elsewhere."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if (
        parts.is_absolute()
        or ".." in parts.parts
        or (parts.parts and ":" in parts.parts[0])
        or "\0" in name
    ):
        raise StageError(
            f"{path}: the name {name!r} leads outside the archive; such archives are not unpacked"
        )
    return parts.as_posix()


def add_size(total: int, name: str, size: int, path: Path, options: ArchiveOptions) -> int:
    if size > options.max_member and looks_like_picture(name):
        raise StageError(
            f"{path}: {name} has {size} bytes; max_member in the source's yaml is {options.max_member}"
        )
    if total + size > options.max_unpacked:
        raise StageError(
            f"{path}: unpacked it has more than {options.max_unpacked} bytes; if you trust it, raise max_unpacked"
        )
    return total + size


def check_sums(path: Path, options: ArchiveOptions) -> None:
    for algorithm in ("sha256", "md5"):
        expected = getattr(options, algorithm)
        if expected:
            with path.open("rb") as file:
                actual = digest(file, algorithm)
            if actual != expected:
                if path.is_relative_to(PARTIAL):
                    path.unlink()
                raise StageError(
                    f"{options.archive}: its {algorithm} is {actual}, the source's yaml says {expected}; "
                    "the archive was changed or damaged, so fetch it anew or mend the yaml"
                )


def fetch(options: ArchiveOptions, downloader: Downloader) -> Path:
    """The archive in data/gather.partial, fetched unless it is there, going on from what an earlier run left of it."""
    name = hashlib.sha256(options.archive.encode()).hexdigest()[:16]
    whole = PARTIAL / "archive" / f"{name}-{Path(httpx.URL(options.archive).path).name}"
    part = whole.with_name(f"{whole.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    idle = 0
    while not whole.is_file():
        before = part.stat().st_size if part.is_file() else 0
        try:
            fetch_rest(options, part, downloader)
            part.replace(whole)
        except Failure as failure:
            progressed = part.is_file() and part.stat().st_size > before
            idle = 0 if progressed else idle + 1
            if failure.wait is None or idle > downloader.options.retries:
                reason = failure.result.reason
                raise StageError(
                    f"{options.archive}: {reason}; run again to go on from what is there"
                ) from None
            time.sleep(min(max(failure.wait, 0.5 * 2**idle), downloader.options.max_wait))
    return whole


def fetch_rest(options: ArchiveOptions, part: Path, downloader: Downloader) -> None:
    """One attempt at what is missing of the archive. Raises Failure; `part` then holds what came so far.

    The server is asked for the rest only if the archive is still the same (If-Range with the ETag or date it gave).
    """
    note = part.with_name(f"{part.name}.etag")
    size = part.stat().st_size if part.is_file() and note.is_file() else 0
    headers = {"Range": f"bytes={size}-", "If-Range": note.read_text()} if size else {}
    downloader.deadline.at = float("inf")  # however long it takes, as long as something comes
    address = parse(options.archive)
    try:
        for _ in range(downloader.options.redirects + 1):
            with downloader.request(address, headers) as response:
                if response.status in REDIRECTS:
                    address = parse(str(address.join(header(response, "location"))))
                    continue
                if response.status not in (200, 206):
                    part.unlink(
                        missing_ok=True
                    )  # 416: what is there is not the beginning of what is offered
                    raise Failure(
                        "failed", f"HTTP {response.status}", 0.0 if response.status >= 416 else None
                    )
                offset = (
                    size if header(response, "content-range").startswith(f"bytes {size}-") else 0
                )
                note.write_text(header(response, "etag") or header(response, "last-modified"))
                if not note.read_text() or note.read_text().startswith("W/"):
                    note.unlink()  # nothing to tell a changed archive by: the next attempt starts from its beginning
                write_rest(response, part, offset, options)
                return
        raise Failure("failed", f"more than {downloader.options.redirects} redirects")
    except BaseException as error:
        failure = explain(error, downloader.options)
        if failure is error:
            raise
        raise failure from None


def write_rest(response: Any, part: Path, offset: int, options: ArchiveOptions) -> None:
    length = header(response, "content-length")
    size = offset
    with (
        part.open("ab" if offset else "wb") as file,
        tqdm(
            desc="archive",
            unit="B",
            unit_scale=True,
            initial=offset,
            total=offset + int(length or 0) or None,
        ) as bar,
    ):
        for chunk in response.iter_stream():
            size += len(chunk)
            if size > options.max_bytes:
                raise Failure("refused", f"larger than max_bytes, {options.max_bytes}")
            file.write(chunk)
            bar.update(len(chunk))
