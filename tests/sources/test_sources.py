"""The ways in which pictures come: lists, folders with names and tables, archives good and bad, and image search."""

import gzip
import hashlib
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from ddgs.engines import duckduckgo_images
from ddgs.utils import _extract_vqd
from ruamel.yaml import YAML

from pawprint.params import StageError, check
from pawprint.sources import Found, archive, folder, labels, search, urls
from pawprint.sources.download import Downloader, DownloadParams
from pawprint.sources.opening import KINDS
from tests.support.world import QUICK, ROOT, Engine, Handler, Server, World, picture, tar


def seen(items: list[Found]) -> list[tuple[str, ...]]:
    return [(item.url, item.label, item.split, item.group) for item in items]


def entry(name: str, kind: bytes = tarfile.REGTYPE, to: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, to, size
    return info


@pytest.mark.parametrize(
    "yaml", sorted((ROOT / "data/sources").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_source_says_what_its_kind_understands(yaml: Path):
    values = YAML(typ="safe").load(yaml.read_text())
    if values["kind"] == "sample":
        pytest.importorskip("pawprint.sources.sample")
    module = __import__(f"pawprint.sources.{values['kind']}", fromlist=["found"])
    check(values, getattr(module, KINDS[values["kind"]]), "", yaml)


# --- lists of addresses -----------------------------------------------------------------------------------------------


def test_a_list_a_class_is_read_as_the_console_snippet_saves_it(tmp_path: Path):
    (tmp_path / "black.csv").write_text(
        "https://a.example/1.jpg\nhttps://a.example/2,3.jpg?x=1,2\n"
    )
    (tmp_path / "grizzly.txt").write_bytes(
        b"\xef\xbb\xbfhttp://b.example/1.jpg\r\n\r\n# mine\r\nhttp://b.example/1.jpg\r\n"
    )
    items = list(urls.find_pictures(urls.UrlsOptions(kind="urls"), tmp_path))
    assert [(item.url, item.label) for item in items] == [
        ("https://a.example/1.jpg", "black"),
        ("https://a.example/2,3.jpg?x=1,2", "black"),
        ("http://b.example/1.jpg", "grizzly"),
    ]


def test_one_table_may_hold_all_classes_with_split_and_group(tmp_path: Path):
    path = tmp_path / "all.csv"
    path.write_text(
        'URL,Label,split,group\n"http://a.example/1,2.jpg",cat,valid,monday\nhttp://a.example/3.jpg,dog,,\n'
    )
    items = list(urls.find_pictures(urls.UrlsOptions(kind="urls"), path))
    assert seen(items) == [
        ("http://a.example/1,2.jpg", "cat", "valid", "monday"),
        ("http://a.example/3.jpg", "dog", "", ""),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "cat.txt",
            "www.example.com/1.jpg\n",
            r"cat.txt, line 1: 'www.example.com/1.jpg' is no address",
        ),
        ("cat.csv", "url,label\nhttp://a.example/1.jpg,\n", r"cat.csv, line 2: the label is empty"),
        ("cat.md", "", r"a .txt or .csv file in"),
        ("cat.txt", "", r"hold no addresses"),
        ("cat.txt", "\xff\xfe".encode("latin-1"), r"not UTF-8"),
    ],
)
def test_a_list_that_cannot_be_read_names_the_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StageError, match=message):
        list(urls.find_pictures(urls.UrlsOptions(kind="urls"), tmp_path))


# --- folders ----------------------------------------------------------------------------------------------------------


def fill(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return root


def from_folder(root: Path, **options: object) -> list[Found]:
    return list(
        folder.find_pictures(
            check({"kind": "folder", **options}, folder.FolderOptions, "", Path("x.yaml")), root
        )
    )


def test_train_valid_and_test_folders_are_the_split(tmp_path: Path):
    root = fill(tmp_path, "train/cat/1.jpg", "val/cat/2.jpg", "test/dog/3.jpg", "more/test/4.jpg")
    assert seen(from_folder(root)) == [
        ("more/test/4.jpg", "test", "", ""),
        ("test/dog/3.jpg", "dog", "test", ""),
        ("train/cat/1.jpg", "cat", "train", ""),
        ("val/cat/2.jpg", "cat", "valid", ""),
    ]


def test_a_folder_can_be_shared_out_between_two_splits_always_in_the_same_way(tmp_path: Path):
    root = fill(tmp_path, *(f"valid/cat/{i}.jpg" for i in range(40)))
    items = from_folder(root, splits={"valid": ["valid", "test"]})
    splits = [item.split for item in items]
    assert set(splits) == {"valid", "test"}
    assert 8 <= splits.count("test") <= 32
    assert splits == [item.split for item in from_folder(root, splits={"valid": ["valid", "test"]})]


def test_labels_come_from_file_names_by_pattern(tmp_path: Path):
    root = fill(tmp_path, "Abyssinian_1.jpg", "great_pyrenees_12.jpg")
    assert [item.label for item in from_folder(root, labels="pattern", pattern=r"^(.+)_\d+")] == [
        "Abyssinian",
        "great_pyrenees",
    ]
    either = r"^(?:(?P<cat>[A-Z])|(?P<dog>[a-z]))"
    assert [item.label for item in from_folder(root, labels="pattern", pattern=either)] == [
        "cat",
        "dog",
    ]
    both = r"^(?P<label>[a-zA-Z_]+)_(?P<group>\d)"
    assert [
        (item.label, item.group) for item in from_folder(root, labels="pattern", pattern=both)
    ] == [
        ("Abyssinian", "1"),
        ("great_pyrenees", "1"),
    ]


def test_a_table_gives_labels_splits_and_groups_and_a_missing_file_is_a_row(tmp_path: Path):
    world = World(tmp_path / "project")
    fill(world.path / "data/own", "a/1.jpg", "2.jpg", "unlisted.jpg")
    world.write(
        "data/own/labels.csv",
        "file,label,split,group\na/1.jpg,cat,test,ann\n2.jpg,dog,,bob\n3.jpg,dog,,\n",
    )
    world.use({"kind": "folder", "labels": "table", "table": "labels.csv"})
    world.run()
    rows = [
        (row["url"], row["label"], row["split"], row["group"], row["status"])
        for row in world.table()
    ]
    assert rows == [
        ("a/1.jpg", "cat", "test", "ann", "ok"),
        ("2.jpg", "dog", "", "bob", "ok"),
        ("3.jpg", "dog", "", "", "failed"),
    ]
    assert world.table()[2]["reason"] == "No such file or directory"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "pattern"}, "should hold the key pattern"),
        (
            {"labels": "pattern", "pattern": "("},
            "pattern is '\\('; it should be a regular expression",
        ),
        ({"labels": "pattern", "pattern": "a"}, "should have a group"),
        ({"labels": "pattern", "pattern": "^(x)"}, r"'\^\(x\)' does not match a/1.jpg"),
        ({"labels": "table", "table": "none.csv"}, "none.csv is missing"),
        (
            {"labels": "table", "table": "bad.csv"},
            "has the columns file, breed; it should have file and label",
        ),
        ({"labels": "table", "table": "out.csv"}, r"out.csv, line 2: ../secret.jpg leads outside"),
        ({"label": "parent"}, "unknown key label .*did you mean labels"),
        ({"splits": {"train": "training"}}, "splits"),
    ],
)
def test_labels_that_cannot_be_had_are_explained(tmp_path: Path, options: dict, message: str):
    fill(tmp_path, "a/1.jpg")
    (tmp_path / "bad.csv").write_text("file,breed\na/1.jpg,x\n")
    (tmp_path / "out.csv").write_text("file,label\n../secret.jpg,x\n")
    with pytest.raises(StageError, match=message):
        from_folder(tmp_path, **{"include": "jpg$"} | options)


# --- archives ---------------------------------------------------------------------------------------------------------

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
        assert [row["label"] for row in world.table()] == expected
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
        "is a link to /etc/passwd",
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
        "is no .tgz, .tar or .zip that can be read",
    ),
    "cut short": (
        lambda p: p.write_bytes(tar(p, {"a/1.jpg": os.urandom(90_000)}).read_bytes()[:50_000]),
        "fetch it anew",
    ),
    "empty": (lambda p: p.write_bytes(b""), "is no .tgz"),
    "missing": (lambda p: None, "is missing; put the archive there"),
}


def long_header(path: Path) -> None:
    """An extended header that says it is 1 GB long: who believes it fills the memory."""
    info = entry("pax", b"x", size=1 << 30)
    path.write_bytes(gzip.compress(info.tobuf() + bytes(3_000_000)))


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
    assert message in world.fail()
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
        world.use({"kind": "archive", "archive": server.base + "/x.tgz", "sha256": sha256[::-1]})
        assert f"its sha256 is {sha256}" in world.fail()


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
    __import__("shutil").rmtree(world.path / "data/raw")
    world.params(min_per_class=1)
    assert "0 b" in world.fail()
    assert (world.metrics()["gone"], world.metrics()["changed"]) == (["a/2.jpg"], ["b/3.jpg"])


def test_a_label_that_cannot_name_a_folder_is_refused(tmp_path: Path):
    world = World(tmp_path / "project")
    world.write("data/own/all.csv", "url,label\nhttp://a.example/1.jpg,../up\n")
    world.use({"kind": "urls"})
    assert "the label '../up' cannot name a folder" in world.fail()


# --- search -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """ddgs itself, its own client, its parsing and ranking: only the host it asks is another."""
    monkeypatch.chdir(tmp_path)
    engine = Engine({"black bear": 150, "teddy bear": 30})
    with Server({"/": engine.token, "/i.js": engine.pages}) as server:
        engine.base = server.base

        def get_vqd(self: duckduckgo_images.DuckduckgoImages, query: str) -> str:
            return _extract_vqd(
                self.http_client.request("GET", server.base, params={"q": query}).content, query
            )

        monkeypatch.setattr(duckduckgo_images.DuckduckgoImages, "search_url", server.base + "/i.js")
        monkeypatch.setattr(duckduckgo_images.DuckduckgoImages, "_get_vqd", get_vqd)
        yield engine


def searching(**more: object) -> search.SearchOptions:
    classes = {"black": ["black bear"], "teddy": ["teddy bear"]}
    values = {
        "kind": "search",
        "classes": classes,
        "pause": 0,
        "backend": "duckduckgo",
        "timeout": 5,
        **more,
    }
    return search.SearchOptions.model_validate(values)


def test_ddgs_is_asked_page_by_page_until_there_are_enough(engine: Engine):
    items = list(
        search.find_pictures(
            searching(max_results=120, region="uk-en", safesearch="off", type_image="photo"), Path()
        )
    )
    assert [sum(item.label == label for item in items) for label in ("black", "teddy")] == [120, 30]
    assert len({item.url for item in items}) == 150
    assert {item.query for item in items if item.label == "black"} == {"black bear"}
    first = engine.asked[0]
    assert (first["l"], first["p"], "type:photo" in first["f"]) == ("uk-en", "-1", True)


def test_a_rate_limit_is_waited_out(engine: Engine):
    engine.refuse = 2
    items = list(search.find_pictures(searching(max_results=20), Path()))
    assert len(items) == 40
    assert not any(item.missing for item in items)


def test_a_search_that_is_refused_for_good_is_reported_and_the_others_kept(engine: Engine):
    engine.refuse = 4
    items = list(search.find_pictures(searching(max_results=20), Path()))
    assert [item.missing for item in items if item.missing] == [
        "0 of 20 found, then the search engine refused: No results found."
    ]
    assert sum(item.label == "teddy" for item in items) == 20


def test_what_was_found_is_not_searched_again_in_the_same_gathering(engine: Engine):
    first = list(search.find_pictures(searching(max_results=20), Path()))
    times = len(engine.asked)
    assert list(search.find_pictures(searching(max_results=20), Path())) == first
    assert len(engine.asked) == times
    list(search.find_pictures(searching(max_results=25), Path()))
    assert len(engine.asked) > times


def test_gather_by_search_without_a_network_says_so_in_the_rows(tmp_path: Path):
    """The whole stage with the real client: every search fails, which is reported by query and by class."""
    world = World(tmp_path / "project")
    values = {
        "kind": "search",
        "classes": {"a": ["x"], "b": ["y"]},
        "pause": 0,
        "retries": 0,
        "timeout": 1,
    }
    world.use(values)
    process = world.start(env={**os.environ, "DDGS_PROXY": "http://127.0.0.1:1"})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "gather.min_per_class is 1, but there are 0 a, 0 b" in errors.splitlines()[-1]
    assert len(world.metrics()["incomplete"]) == 2


def test_a_file_that_looks_like_a_picture_by_name():
    assert labels.looks_like_picture("a/b.JPG")
    assert not labels.looks_like_picture("a/._b.jpg")
    assert not labels.looks_like_picture("a/b.mat")
