"""Source `archive`: pictures in a .tgz, .tar or .zip, at a URL or a path, labelled as in `folder`.

Nothing is unpacked under a name of the archive's choosing. Its table of contents is read and judged
first. Then each picture's bytes go to gather, which files them under their hash, so a hostile name
leads nowhere. An archive that holds a link, a device, a path outside itself or more than
`max_unpacked` bytes is refused whole. A download that breaks off goes on where it stopped.
"""

import contextlib
import gzip
import hashlib
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, Literal, NamedTuple

import httpcore
from pydantic import AfterValidator, Field
from tqdm import tqdm

from pawprint.params import StageError
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources import PARTIAL, Found
from pawprint.sources.content import file_hash
from pawprint.sources.download import REDIRECTS, Downloader, Failure, failure_of
from pawprint.sources.labels import LabelOptions, label_files, missing_format
from pawprint.sources.names import Md5, Sha256, check_path_text, is_hidden, printable
from pawprint.sources.network import follow_redirect, header_of, parse_address


class Member(NamedTuple):
    """A file in an archive. read: returns its bytes; may raise OSError."""

    name: str
    size: int
    read: Callable[[], bytes]


class ArchiveOptions(LabelOptions):
    """What data/sources/NAME.yaml may say for `kind: archive`, besides LabelOptions.

    archive: a URL or a path. sha256 or md5: of the whole archive, if known. max_bytes: of the
    archive itself. max_unpacked: bytes that all its files may have together. max_member: bytes of
    one picture, or of the table of labels, which are held in memory.
    """

    kind: Literal["archive"]
    archive: Annotated[str, AfterValidator(check_path_text)]
    sha256: Sha256 = ""
    md5: Md5 = ""
    max_bytes: int = Field(default=20_000_000_000, ge=1)
    max_unpacked: int = Field(default=20_000_000_000, ge=1)
    max_member: int = Field(default=200_000_000, ge=1)


def find_pictures(options: ArchiveOptions, root: Path, downloader: Downloader) -> Iterator[Found]:
    """Yield the archive's files that have a label; only pictures, by name, are read.

    They come in the archive's own order, because a packed tar can only be read forwards at speed.
    root: not used; `archive` is relative to the project.
    Raises StageError for an archive that cannot be fetched, is not the one expected, or is hostile.
    """
    path = Path(options.archive)
    if "://" in options.archive:
        path = fetch_archive(options, downloader)
    if not path.is_file():
        raise StageError(
            f"archive: {path} is missing; put the archive there, or give its URL in the source's "
            "yaml"
        )
    check_sums(path, options)
    with contextlib.ExitStack() as stack:
        members = open_archive(path, options, stack)
        files = {member.name: member for member in members if not is_hidden(member.name)}
        labelled = label_files(
            sorted(files),
            options,
            lambda name: read_member_table(files, name, options, path),
            str(path),
        )
        if not labelled:
            raise StageError(
                f"{path}: it holds no pictures under the names that the source's yaml includes"
            )
        order = {name: number for number, name in enumerate(files)}
        for row in sorted(labelled, key=lambda row: order.get(row.file, -1)):
            missing, status = row.missing, "failed"
            if not missing:
                missing, status = missing_format(row.file), "not a picture"
            yield Found(
                row.file,
                row.label,
                None if missing else files[row.file].read,
                split=row.split,
                group=row.group,
                missing=missing,
                status=status,
                credit=row.credit,
            )


def read_member_table(
    files: dict[str, Member], name: str, options: ArchiveOptions, path: Path
) -> bytes:
    """Return a table of labels. Raises StageError if it is missing, broken or too large."""
    member = files.get(name)
    if member is None:
        raise StageError(f"{path}: it holds no {name}, which `table` names")
    if member.size > options.max_member:
        raise StageError(
            f"{path}: {member.name!r} has {member.size} bytes; max_member in the source's yaml is "
            f"{options.max_member}"
        )
    try:
        return member.read()
    except OSError as error:
        raise StageError(f"{path}: {member.name!r} cannot be read: {error}") from None


def open_archive(path: Path, options: ArchiveOptions, stack: contextlib.ExitStack) -> list[Member]:
    """Return the archive's files, judged; they can be read while `stack` is open."""
    try:
        if zipfile.is_zipfile(path):
            return zip_members(stack.enter_context(zipfile.ZipFile(path)), path, options)
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        raw: Any = stack.enter_context(gzip.GzipFile(path) if packed else path.open("rb"))
        limited: Any = Limited(raw, path, options)
        archive = stack.enter_context(tarfile.TarFile(fileobj=limited))
        members = tar_members(archive, path, options)
        read_rest(limited)
        return members
    except StageError:
        raise
    except Exception as error:  # both modules raise many kinds on damaged files
        why = " ".join(str(error).split()) or type(error).__name__
        raise StageError(
            f"{path} cannot be read as a .tgz, .tar or .zip ({why}); fetch it again"
        ) from None


class Limited:
    """A file that gives at most `max_unpacked` bytes in all and `max_member` at once.

    Headers and padding count. tarfile believes the sizes it reads, even those in its own extended
    headers.
    """

    def __init__(
        self, inner: IO[bytes] | gzip.GzipFile, path: Path, options: ArchiveOptions
    ) -> None:
        self.inner, self.path, self.options = inner, path, options

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self.options.max_member + tarfile.RECORDSIZE:
            raise StageError(
                f"{self.path}: a file in it has {size} bytes; max_member is "
                f"{self.options.max_member}"
            )
        return self.inner.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        # Headers and padding of small files can double their size, hence twice.
        if place > 2 * self.options.max_unpacked + tarfile.RECORDSIZE:
            raise StageError(
                f"{self.path}: unpacked it has more than max_unpacked, "
                f"{self.options.max_unpacked} bytes"
            )
        return self.inner.seek(place, whence)

    def tell(self) -> int:
        return self.inner.tell()


def read_rest(file: Limited) -> None:
    """Read to the end, where gzip keeps its checksum. Raises OSError if the checksum is wrong."""
    while file.read(tarfile.RECORDSIZE):
        file.seek(file.tell())  # which refuses too many bytes


def tar_members(archive: tarfile.TarFile, path: Path, options: ArchiveOptions) -> list[Member]:
    """Return a tar's files. Raises StageError for a link, a device, or too many bytes."""
    members, total = [], 0
    for info in archive:
        name = safe_name(info.name, path)
        if info.issym() or info.islnk():
            raise StageError(
                f"{path}: {info.name!r} is a link to {info.linkname!r}; archives with links "
                "are not unpacked"
            )
        if not info.isfile() and not info.isdir():
            raise StageError(
                f"{path}: {info.name!r} is neither a file nor a folder; such archives are not "
                "unpacked"
            )
        total = add_size(total, info.name, info.size, path, options)
        if info.isfile():
            members.append(Member(name, info.size, partial(read_tar, archive, info)))
    return members


def read_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    """Return a file's bytes. Raises OSError if it is damaged."""
    try:
        file = archive.extractfile(info)
        content = file.read(info.size) if file else b""
    except (StageError, OSError):
        raise
    except Exception as error:
        raise OSError(f"broken in the archive: {error}") from None
    if len(content) != info.size:
        raise OSError("the archive is cut short here")
    return content


def zip_members(archive: zipfile.ZipFile, path: Path, options: ArchiveOptions) -> list[Member]:
    """Return a zip's files. Raises StageError for a link, a device, or too many bytes."""
    members, total = [], 0
    for info in archive.infolist():
        name = safe_name(info.filename, path)
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "link" if stat.S_ISLNK(mode) else "device"
            raise StageError(
                f"{path}: {info.filename!r} is a {what}; archives with links or devices are not "
                "unpacked"
            )
        if info.flag_bits & 1:
            raise StageError(
                f"{path}: {info.filename!r} is encrypted; unpack it yourself and use kind: folder"
            )
        total = add_size(total, info.filename, info.file_size, path, options)
        if not info.is_dir():
            members.append(Member(name, info.file_size, partial(read_zip, archive, info)))
    return members


def read_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return at most as many bytes as the table of contents says, which was judged.

    Raises OSError if the file is damaged.
    """
    try:
        with archive.open(info) as file:
            return file.read(info.file_size)
    except OSError:
        raise
    except Exception as error:  # the unpackers raise many kinds
        raise OSError(f"broken in the archive: {error}") from None


def safe_name(name: str, path: Path) -> str:
    """Return a member's name as a relative path with slashes.

    Raises StageError for a name that would lead elsewhere.
    """
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
    return printable(parts.as_posix())


def add_size(total: int, name: str, size: int, path: Path, options: ArchiveOptions) -> int:
    """Return the bytes so far and this file's. Raises StageError if they are too many."""
    if size > options.max_member and looks_like_picture(name):
        raise StageError(
            f"{path}: {name!r} has {size} bytes; max_member in the source's yaml is "
            f"{options.max_member}"
        )
    if size < 0 or total + size > options.max_unpacked:
        raise StageError(
            f"{path}: unpacked it has more than {options.max_unpacked} bytes; if you trust it, "
            "raise max_unpacked"
        )
    return total + size


def check_sums(path: Path, options: ArchiveOptions) -> None:
    """Raise StageError if the archive is not the one that the source's yaml names."""
    for algorithm in ("sha256", "md5"):
        expected = getattr(options, algorithm)
        if expected:
            with path.open("rb") as file:
                actual = file_hash(file, algorithm)
            if actual != expected:
                if path.is_relative_to(PARTIAL):
                    path.unlink()
                raise StageError(
                    f"{options.archive}: its {algorithm} is {actual}, the source's yaml says "
                    f"{expected}; the archive was changed or damaged, so fetch it again or correct "
                    "the yaml"
                )


def fetch_archive(options: ArchiveOptions, downloader: Downloader) -> Path:
    """Return the archive in data/gather.partial; fetch it, or the rest of it, if it is not there.

    Raises StageError if it cannot be fetched.
    """
    whole = PARTIAL / "archive" / hashlib.sha256(options.archive.encode()).hexdigest()[:16]
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
                advice = "run again to go on from what is there"
                if failure.result.status == "refused":
                    advice = "correct `archive` in the source's yaml, or download it yourself"
                raise StageError(f"{options.archive}: {failure.result.reason}; {advice}") from None
            time.sleep(min(max(failure.wait, 0.5 * 2**idle), downloader.options.max_wait))
    return whole


def fetch_rest(options: ArchiveOptions, part: Path, downloader: Downloader) -> None:
    """Try once to fetch what `part` lacks. Raises Failure; `part` then holds what came so far.

    The server is asked for the rest only if the archive is still the same: If-Range with the ETag
    or date that it gave.
    """
    note = part.with_name(f"{part.name}.etag")
    size = part.stat().st_size if part.is_file() and note.is_file() else 0
    headers = {"Range": f"bytes={size}-", "If-Range": note.read_text()} if size else {}
    downloader.deadline.at = float("inf")  # however long it takes, as long as something comes
    try:
        address = parse_address(options.archive)
        for _ in range(downloader.options.redirects + 1):
            with downloader.request(address, headers) as response:
                if response.status in REDIRECTS:
                    address = follow_redirect(address, header_of(response, "location"))
                    continue
                if response.status not in (200, 206):
                    # 416: what is there is not the beginning of what is offered
                    part.unlink(missing_ok=True)
                    wait = 0.0 if response.status >= 416 else None
                    raise Failure("failed", f"HTTP {response.status}", wait)
                rest = header_of(response, "content-range").startswith(f"bytes {size}-")
                _note_version(response, note)
                write_rest(response, part, size if rest else 0, options)
                return
        raise Failure("failed", f"more than {downloader.options.redirects} redirects")
    except BaseException as error:
        failure = failure_of(error, downloader.options)
        if failure is error:
            raise
        raise failure from None


def _note_version(response: httpcore.Response, note: Path) -> None:
    """Write down the ETag or date of an archive. Without one, the next attempt starts over."""
    version = header_of(response, "etag") or header_of(response, "last-modified")
    if version and version.isascii() and version.isprintable() and not version.startswith("W/"):
        note.write_text(version)
    else:
        note.unlink(missing_ok=True)


def write_rest(
    response: httpcore.Response, part: Path, offset: int, options: ArchiveOptions
) -> None:
    """Write the body to `part` from `offset` on. Raises Failure if the archive is too large."""
    length = header_of(response, "content-length")
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
