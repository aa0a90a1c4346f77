"""Archives, good and hostile ones, and their download."""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from pawprint.params import StageError, check
from pawprint.sources import archive
from pawprint.sources.download import Downloader, DownloadParams
from tests.support.phone import heic, movie
from tests.support.world import QUICK, ROOT, Handler, Server, World, picture, tar

COLOURS = ("blue", "red")


def entry(name: str, kind: bytes = tarfile.REGTYPE, to: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, to, size
    return info


PETS = {
    "pet/images/Abyssinian_1.jpg": picture(1),
    "pet/images/beagle_2.jpg": picture(2),
    "pet/images/._beagle_2.jpg": b"mac",
    "pet/images/beagle_2.mat": b"matlab",
    "pet/annotations/trimaps/Abyssinian_1.png": picture(3, form="PNG"),
}


def test_pets_and_cat_or_dog_are_two_readings_of_one_archive(tmp_path: Path):
    world = World(tmp_path / "project")
    tar(world.path / "pet.tgz", PETS)
    for name, expected in (("pets", ["Abyssinian", "beagle"]), ("cat_or_dog", ["cat", "dog"])):
        values = YAML(typ="safe").load((ROOT / f"data/sources/{name}.yaml").read_text())
        world.use(values | {"archive": "pet.tgz"})
        world.run()
        rows = [(row["url"].split("/")[-1], row["status"]) for row in world.table()]
        assert rows == [
            ("Abyssinian_1.jpg", "ok"),
            ("beagle_2.jpg", "ok"),
            ("beagle_2.mat", "not a picture"),
        ]
        assert [row["label"] for row in world.table() if row["path"]] == expected
        stored = sorted(path.read_bytes() for path in (world.path / "data/raw").rglob("*.jpg"))
        assert stored == sorted([picture(1), picture(2)])


def test_train_and_valid_folders_of_an_archive_are_kept(tmp_path: Path):
    files = {
        f"mnist_sample/{split}/{label}/{i}.png": picture(i)
        for split in ("train", "valid")
        for label in "37"
        for i in range(9)
    }
    tar(tmp_path / "m.tgz", files)
    values = YAML(typ="safe").load((ROOT / "data/sources/mnist_sample.yaml").read_text())
    options = check(
        values | {"archive": str(tmp_path / "m.tgz")}, archive.ArchiveOptions, "", Path("m.yaml")
    )
    items = list(archive.find_pictures(options, Path(), None))  # type: ignore[arg-type]
    assert {(item.url.split("/")[1], item.split) for item in items} == {
        ("train", "train"),
        ("valid", "valid"),
        ("valid", "test"),
    }


def read_all(path: Path, **options: object) -> dict[str, bytes]:
    checked = check(
        {"kind": "archive", "archive": str(path), **options},
        archive.ArchiveOptions,
        "",
        Path("x.yaml"),
    )
    return {
        item.url: item.read() for item in archive.find_pictures(checked, Path(), None) if item.read
    }  # type: ignore[arg-type]


def zip_of(path: Path, files: dict[str, bytes], **more: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = more.get("mode", 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return path


@pytest.mark.parametrize("form", ["tgz", "tar", "zip"])
def test_tgz_tar_and_zip_hold_the_same_pictures(tmp_path: Path, form: str):
    files = {"b/1.jpg": picture(1), "a/2.jpg": picture(2), "a/notes.txt": b"no picture"}
    path = tmp_path / f"x.{form}"
    zip_of(path, files) if form == "zip" else tar(
        path, files, mode="w:gz" if form == "tgz" else "w"
    )
    assert read_all(path) == {"b/1.jpg": picture(1), "a/2.jpg": picture(2)}


GOOD = {"a/1.jpg": picture(1)}
HOSTILE = {
    "parent": (lambda p: tar(p, {**GOOD, "../evil.jpg": b"x"}), "'../evil.jpg' leads outside"),
    "deep parent": (lambda p: tar(p, {"a/b/../../../evil.jpg": b"x"}), "leads outside"),
    "absolute": (lambda p: tar(p, {"/tmp/evil.jpg": b"x"}), "'/tmp/evil.jpg' leads outside"),
    "backslash": (lambda p: tar(p, {"..\\evil.jpg": b"x"}), "leads outside"),
    "drive": (lambda p: tar(p, {"C:\\evil.jpg": b"x"}), "leads outside"),
    "symlink": (
        lambda p: tar(p, GOOD, entry("a/l.jpg", tarfile.SYMTYPE, "/etc/passwd")),
        "is a link to '/etc/passwd'",
    ),
    "hard link": (
        lambda p: tar(p, GOOD, entry("a/l.jpg", tarfile.LNKTYPE, "../../x")),
        "is a link to",
    ),
    "device": (
        lambda p: tar(p, GOOD, entry("a/d.jpg", tarfile.CHRTYPE)),
        "neither a file nor a folder",
    ),
    "fifo": (
        lambda p: tar(p, GOOD, entry("a/f.jpg", tarfile.FIFOTYPE)),
        "neither a file nor a folder",
    ),
    "large": (lambda p: tar(p, GOOD, entry("a/z.bin", size=3_000_000)), "more than 2000000 bytes"),
    "many": (
        lambda p: tar(p, {f"a/{i}.jpg": bytes(500_000) for i in range(5)}),
        "more than 2000000 bytes",
    ),
    "large picture": (lambda p: tar(p, {"a/1.jpg": bytes(1_500_000)}), "max_member"),
    "zip parent": (lambda p: zip_of(p, {"../evil.jpg": b"x"}), "leads outside"),
    "zip link": (lambda p: zip_of(p, {"a/l.jpg": b"/etc/passwd"}, mode=0o120777), "is a link"),
    "zip device": (lambda p: zip_of(p, {"a/d.jpg": b""}, mode=0o020666), "is a device"),
    "zip bomb": (
        lambda p: zip_of(p, {f"a/{i}.jpg": bytes(900_000) for i in range(5)}),
        "more than 2000000 bytes",
    ),
    "zips in a zip": (
        lambda p: zip_of(p, {f"{i}.zip": bytes(10) for i in range(16)}),
        "holds no pictures",
    ),
    "not an archive": (
        lambda p: p.write_bytes(b"<html>moved</html>"),
        "cannot be read as a .tgz, .tar or .zip",
    ),
    "cut short": (
        lambda p: p.write_bytes(tar(p, {"a/1.jpg": os.urandom(90_000)}).read_bytes()[:50_000]),
        "fetch it again",
    ),
    "empty": (lambda p: p.write_bytes(b""), "(empty file)"),
    "missing": (lambda p: None, "is missing; put the archive there"),
}


def flipped(path: Path) -> None:
    """An archive in which one bit of a picture has changed, as only gzip's checksum tells."""
    content = tar(path, {"a/1.jpg": picture(1)}, mode="w").read_bytes()
    packed = bytearray(gzip.compress(content, compresslevel=0))  # the pictures as they are
    packed[packed.find(picture(1)) + 300] ^= 1
    path.write_bytes(packed)


def trailing(path: Path) -> None:
    """Zeros without end behind the archive."""
    content = tar(path, {"a/1.jpg": picture(1)}, mode="w").read_bytes()
    path.write_bytes(gzip.compress(content + bytes(9_000_000)))


def long_header(path: Path) -> None:
    """An extended header that says it is 1 GB long: who believes it fills the memory."""
    info = entry("pax", b"x", size=1 << 30)
    path.write_bytes(gzip.compress(info.tobuf() + bytes(3_000_000)))


HOSTILE["flipped"] = (flipped, "CRC check failed")
HOSTILE["trailing zeros"] = (trailing, "more than max_unpacked")
HOSTILE["long header"] = (long_header, "max_member is 1000000")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_ends_with_one_line_and_leaves_nothing(tmp_path: Path, name: str):
    build, message = HOSTILE[name]
    world = World(tmp_path / "deep/er/project")
    build(world.path / "x.tgz")
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    world.use(
        {"kind": "archive", "archive": "x.tgz", "max_unpacked": 2_000_000, "max_member": 1_000_000}
    )
    before.add(world.path / "data/sources/tested.yaml")
    assert message in world.refuse()
    after = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    assert {path.relative_to(world.path).as_posix() for path in after - before} <= {
        "data/gather.partial",
        "data/gather.partial/journal.jsonl",
    }


def ranged(body: bytes, cut: list[int], etag: str = '"one"'):
    """A server of one file that knows ranges and hangs up after the n-th answer's cut[n] bytes."""

    def answer(handler: Handler) -> None:
        start = 0
        if handler.headers["Range"] and handler.headers["If-Range"] == etag:
            start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        answer.starts.append(start)
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(body) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.end_headers()
        end = start + cut.pop(0) if cut else len(body)
        handler.wfile.write(body[start:end])
        handler.close_connection = True

    answer.starts = []
    return answer


def test_an_archive_that_breaks_off_goes_on_where_it_stopped(tmp_path: Path):
    body = tar(
        tmp_path / "x.tgz",
        {f"{label}/{i}.jpg": os.urandom(20_000) for label in "ab" for i in range(9)},
    ).read_bytes()
    answer = ranged(body, [100_000, 150_000])
    world = World(tmp_path / "project")
    with Server({"/x.tgz": answer}) as server:
        sha256 = hashlib.sha256(body).hexdigest()
        world.use({"kind": "archive", "archive": server.base + "/x.tgz", "sha256": sha256})
        world.run()
        assert answer.starts == [0, 100_000, 250_000]
        before = world.files()
        server.forget()
        world.run()
        assert not server.asked
        (world.path / world.table()[3]["path"]).unlink()
        world.run()
        assert world.files() == before
        world.use({"kind": "archive", "archive": server.base + "/x.tgz", "sha256": sha256.upper()})
        world.run_here()
        world.use({"kind": "archive", "archive": server.base + "/x.tgz", "sha256": sha256[::-1]})
        assert f"its sha256 is {sha256}" in world.fail()
        world.use({"kind": "archive", "archive": server.base + "/x.tgz", "sha256": "abc"})
        assert "sha256 is 'abc'; it should match pattern" in world.fail()


def test_a_killed_archive_download_goes_on_and_a_changed_archive_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    old, new = os.urandom(50_000), os.urandom(50_000)
    options = DownloadParams(**QUICK | {"retries": 0})
    with (
        Server({"/x.tgz": ranged(old, [20_000])}) as server,
        Downloader(options, True) as downloader,
    ):
        values = archive.ArchiveOptions(kind="archive", archive=server.base + "/x.tgz")
        with pytest.raises(StageError, match="run again to go on"):
            archive.fetch_archive(
                values.model_copy(update={"archive": server.base + "/no.tgz"}), downloader
            )
        part = archive.PARTIAL / "archive"
        part.mkdir(parents=True, exist_ok=True)
        with pytest.raises(archive.Failure):
            archive.fetch_rest(values, part / "x", downloader)
        assert (part / "x").stat().st_size == 20_000
        server.answers["/x.tgz"] = ranged(new, [], etag='"two"')
        archive.fetch_rest(values, part / "x", downloader)
        assert (part / "x").read_bytes() == new


def test_what_an_archive_no_longer_holds_is_gone(tmp_path: Path):
    world = World(tmp_path / "project")
    tar(world.path / "x.tgz", {"a/1.jpg": picture(1), "a/2.jpg": picture(2), "b/3.jpg": picture(3)})
    world.use({"kind": "archive", "archive": "x.tgz"})
    world.run()
    tar(world.path / "x.tgz", {"a/1.jpg": picture(1), "b/3.jpg": picture(4)})
    shutil.rmtree(world.path / "data/raw")
    world.params(min_per_class=1)
    assert "0 b" in world.fail()
    assert (world.metrics()["gone"], world.metrics()["changed"]) == (["a/2.jpg"], ["b/3.jpg"])


def test_a_class_of_another_format_stops_the_stage_with_five_files_and_where_the_rest_is(
    tmp_path: Path,
):
    world = World(tmp_path / "project")
    files = {f"x/dog/{i}.psd": b"layers" for i in range(8)}
    tar(world.path / "x.tgz", {"x/cat/1.jpg": picture(1), **files, "x/README.txt": b"?"})
    world.use({"kind": "archive", "archive": "x.tgz"})
    process = world.start()
    _, errors = process.communicate(timeout=100)
    line = errors.strip().splitlines()[-1]
    assert process.returncode == 1
    assert "x.tgz: no label, so left out: x/README.txt" in errors
    assert "0 dog; missing of them: x/dog/0.psd (not a picture: its name ends in .psd" in line
    assert line.count("(not a picture") == 5
    assert "and 3 more; data/gather.partial/gathered.csv lists all" in line
    assert "leave them out by `include`" in line
    assert "network" not in line
    assert len(world.table("gather.partial/gathered")) == 9
    assert world.metrics()["status"] == {"not a picture": 8, "ok": 1}


def test_live_photos_in_an_archive_are_their_stills(tmp_path: Path):
    world = World(tmp_path / "project")
    still = {f"x/{label}/IMG_1.HEIC": heic(Image.new("RGB", (64, 64), label)) for label in COLOURS}
    moving = {f"x/{label}/IMG_1.MOV": movie() for label in COLOURS}
    tar(world.path / "x.tgz", still | moving)
    world.use({"kind": "archive", "archive": "x.tgz"})
    world.run()
    assert world.metrics()["labels"] == {"blue": 1, "red": 1}
    assert world.metrics()["not_pictures"] == {"a video, not a picture": 2}


def sparse_tar(path: Path, name: str, size: int) -> Path:
    """A tar of a few kB that holds one file of `size` bytes, all of them zero."""
    folder = path.parent / "sparse"
    (folder / name).parent.mkdir(parents=True)
    with (folder / name).open("wb") as file:
        file.truncate(size)
    done = subprocess.run(["tar", "-c", "-S", "-f", path, "-C", folder, "."], capture_output=True)
    if done.returncode:
        pytest.skip("needs GNU tar")
    tar(path, GOOD, mode="a:")
    assert path.stat().st_size < 50_000
    return path


@pytest.mark.parametrize("name", ["labels.csv", "big.jpg"])
def test_a_table_or_picture_of_gigabytes_in_a_sparse_tar_is_refused(tmp_path: Path, name: str):
    path = sparse_tar(tmp_path / "x.tar", name, 8_000_000_000)
    with pytest.raises(StageError, match=f"{name}' has 8000000000 bytes; max_member"):
        read_all(path, labels="table", table="labels.csv")


def test_a_table_in_a_zip_is_bounded_too(tmp_path: Path):
    path = zip_of(tmp_path / "x.zip", {"labels.csv": bytes(3_000_000)})
    with pytest.raises(StageError, match=r"labels\.csv' has 3000000 bytes; max_member"):
        read_all(path, labels="table", table="labels.csv", max_member=1_000_000)


def test_a_table_of_an_archive_is_read_strictly(tmp_path: Path):
    path = tar(tmp_path / "x.tgz", {**GOOD, "t.csv": b"file,label\na/1.jpg,tench, Tinca\n"})
    with pytest.raises(StageError, match=r"t\.csv, line 2: 3 cells, the header has 2"):
        read_all(path, labels="table", table="t.csv")


def test_names_in_an_archive_that_are_not_utf_8_are_taken(tmp_path: Path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as file:
        for name in ("a/café.jpg", "b/1.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(picture(1))
            file.addfile(info, io.BytesIO(picture(1)))
    assert list(read_all(path)) == ["a/caf\\xe9.jpg", "b/1.jpg"]
    world = World(tmp_path / "project")
    world.use({"kind": "archive", "archive": str(path)})
    world.run()
    assert [row["url"] for row in world.table()] == ["a/caf\\xe9.jpg", "b/1.jpg"]


def test_headers_in_a_chain_do_not_end_in_a_traceback(tmp_path: Path):
    """tarfile reads each long name by calling itself."""
    long_name = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=4).tobuf() + b"a/b\0"
    (tmp_path / "x.tar").write_bytes(long_name.ljust(1024, b"\0") * 3000)
    with pytest.raises(StageError, match="cannot be read as a"):
        read_all(tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://xn--/x.tgz", "not an address; correct `archive`"),
        ("ftp://a.example/x.tgz", "ftp is not http or https; correct `archive`"),
        ("://x.tgz", "no scheme is not http or https"),
        ("http://127.0.0.1:1/" + "n" * 240 + ".tgz", "no connection; run again"),
        ("http://127.0.0.1:1/%00%ff/..", "no connection; run again"),
        ("x" * 300 + ".tgz", "archive is 'xxx"),
        ("", "archive is ''; it should name a file"),
        ("a\0b", "archive is 'a\\x00b'; it should be a path"),
    ],
)
def test_an_odd_address_of_an_archive_is_one_line(tmp_path: Path, address: str, message: str):
    world = World(tmp_path / "project")
    world.use({"kind": "archive", "archive": address})
    world.params(download=dict(QUICK) | {"retries": 0})
    assert message in world.refuse()
