"""data/gathered.csv as a lock: the same pictures on every clone, also after killed runs."""

import contextlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pawprint.sources.lock import Row, read_lock, write_lock
from tests.support.world import Handler, Server, World, fill, picture

NAMES = [f"/{label}/{i}.jpg" for label in ("cat", "dog") for i in range(12)]


def slowly(handler: Handler, body: bytes) -> None:
    """Half of the body, a pause, the other half: a kill has something to cut."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.server.world.stopping.wait(0.02)  # type: ignore[attr-defined]
    handler.wfile.write(body[len(body) // 2 :])


def pictures() -> dict:
    return {name: partial(slowly, body=picture(number)) for number, name in enumerate(NAMES)}


def list_them(world: World, server: Server, names: list[str] = NAMES) -> None:
    for label in ("cat", "dog"):
        lines = [server.base + name for name in names if name.startswith(f"/{label}/")]
        world.write(
            f"data/own/{label}.txt",
            "\n".join([*lines, server.base + f"/{label}/missing.jpg"]) + "\n",
        )


def project(path: Path, server: Server, **gather: object) -> World:
    world = World(path)
    list_them(world, server)
    world.use({"kind": "urls"}, **gather)
    return world


@pytest.fixture
def server():
    with Server(pictures()) as server:
        yield server


def test_a_clone_fetches_exactly_the_locked_addresses_and_gets_the_same_bytes(
    tmp_path: Path, server: Server
):
    world = project(tmp_path / "first", server)
    world.run()
    before = world.files()
    shutil.rmtree(world.path / "data/raw")
    server.forget()
    world.run()
    assert world.files() == before
    assert set(server.asked) == set(
        NAMES
    )  # what was missing at first is no part of the data, and not asked for again
    server.forget()
    world.run()
    assert world.files() == before
    assert not server.asked


def test_gone_and_changed_pictures_are_named_and_their_hashes_kept(tmp_path: Path, server: Server):
    world = project(tmp_path / "first", server)
    world.run()
    locked = {row["url"]: row for row in world.table()}
    shutil.rmtree(world.path / "data/raw")
    healthy = dict(server.answers)
    del server.answers["/cat/3.jpg"]
    server.answers["/cat/4.jpg"] = b"<html>moved</html>"
    server.answers["/dog/5.jpg"] = picture(999)
    server.answers["/dog/6.jpg"] = lambda handler: handler.reply(500)
    world.run()
    metrics = world.metrics()
    assert metrics["gone"] == [server.base + "/cat/3.jpg", server.base + "/cat/4.jpg"]
    assert metrics["changed"] == [server.base + "/dog/5.jpg"]
    assert metrics["failed"] == [server.base + "/dog/6.jpg"]
    assert metrics["status"] == {"changed": 1, "failed": 1, "gone": 4, "ok": 20}
    for row in world.table():
        assert (row["sha256"], row["path"]) == (
            locked[row["url"]]["sha256"],
            locked[row["url"]]["path"],
        )
        assert (world.path / row["path"]).is_file() == (row["status"] == "ok") or not row["path"]
    server.answers.clear()
    server.answers.update(healthy)
    world.run()
    assert {row["url"]: row for row in world.table()} == locked


def test_too_few_of_a_class_fails_saying_what_is_missing_and_leaves_the_lock_alone(
    tmp_path: Path, server: Server
):
    world = project(tmp_path / "first", server, min_per_class=10)
    world.run()
    lock = (world.path / "data/gathered.csv").read_bytes()
    shutil.rmtree(world.path / "data/raw")
    for i in range(4):
        del server.answers[f"/cat/{i}.jpg"]
    line = world.fail()
    assert "gather.min_per_class is 10, but there are 8 cat" in line
    assert "dvc pull" in line
    assert (world.path / "data/gathered.csv").read_bytes() == lock
    assert world.metrics()["gone"] == [f"{server.base}/cat/{i}.jpg" for i in range(4)]
    server.forget()
    world.params(min_per_class=8)
    world.run()
    assert set(server.asked) == {f"/cat/{i}.jpg" for i in range(4)}


def test_a_first_run_with_too_few_asks_again_for_what_failed_only(tmp_path: Path, server: Server):
    world = project(tmp_path / "first", server, min_per_class=12)
    behaviour = server.answers.pop("/dog/1.jpg")
    assert "11 dog" in world.fail()
    assert not (world.path / "data/gathered.csv").exists()
    server.forget()
    server.answers["/dog/1.jpg"] = behaviour
    world.run()
    assert set(server.asked) == {"/dog/1.jpg", "/cat/missing.jpg", "/dog/missing.jpg"}


def test_another_list_is_a_new_search_that_keeps_what_is_still_wanted(
    tmp_path: Path, server: Server
):
    world = project(tmp_path / "first", server)
    world.run()
    server.answers["/cat/new.jpg"] = picture(500)
    list_them(world, server, [*NAMES[2:], "/cat/new.jpg"])
    server.forget()
    world.run()
    assert set(server.asked) == {"/cat/new.jpg", "/cat/missing.jpg", "/dog/missing.jpg"}
    urls = {row["url"] for row in world.table()}
    assert server.base + NAMES[0] not in urls
    stored = {
        path.relative_to(world.path).as_posix() for path in (world.path / "data/raw").rglob("*.jpg")
    }
    assert stored == {row["path"] for row in world.table() if row["path"]}


def test_comments_in_the_yaml_and_other_time_outs_are_no_new_search(tmp_path: Path, server: Server):
    world = project(tmp_path / "first", server)
    world.run()
    before = world.files()
    server.forget()
    world.write("data/sources/tested.yaml", "# said differently\nkind: 'urls'\n")
    world.params(download={"read_timeout": 3})
    world.run()
    assert world.files() == before
    assert not server.asked


def test_a_picture_damaged_on_disk_is_fetched_again(tmp_path: Path, server: Server):
    world = project(tmp_path / "first", server)
    world.run()
    before = world.files()
    row = world.table()[0]
    world.write(row["path"], (world.path / row["path"]).read_bytes()[:-1] + b"?")
    server.forget()
    world.run()
    assert world.files() == before
    assert sum(server.asked.values()) == 1


def test_the_result_depends_on_no_timing(tmp_path: Path, server: Server):
    results = []
    for name, threads in (("one", 1), ("many", 8)):
        world = project(tmp_path / name, server)
        world.params(download={"threads": threads})
        world.run()
        results.append(world.files())
    assert results[0] == results[1]


def kill_at(world: World, server: Server, requests: int, delay: float) -> set[str]:
    """Start gather and kill it `delay` after the server got `requests`; what its journal holds."""
    process = world.start()
    started = sum(server.asked.values())
    while sum(server.asked.values()) - started < requests and process.poll() is None:
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.communicate()
    journal = world.path / "data/gather.partial/journal.jsonl"
    if not journal.is_file():
        finished = (world.path / "data/gathered.csv").is_file()
        return {*NAMES, "/cat/missing.jpg", "/dog/missing.jpg"} if finished else set()
    done = set()
    for line in journal.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            done.add(json.loads(line)["url"].removeprefix(server.base))
    return done


def check_kills(tmp_path: Path, server: Server, rounds: int) -> None:
    undisturbed = project(tmp_path / "undisturbed", server)
    undisturbed.run()
    want = undisturbed.files()
    chance = random.Random(7)
    cut = 0
    for number in range(rounds):
        world = project(tmp_path / f"killed{number}", server)
        done = kill_at(world, server, chance.randint(1, len(NAMES) + 2), chance.uniform(0, 0.03))
        cut += 0 < len(done) < len(NAMES) + 2
        server.forget()
        world.run()
        assert world.files() == want
        assert not set(server.asked) & done, "a finished download was repeated"
        assert not (world.path / "data/gather.partial").exists()
        shutil.rmtree(world.path)
    assert cut >= rounds // 2, "most kills should fall into the gathering"


def test_killed_and_resumed_is_the_same_as_undisturbed(tmp_path: Path, server: Server):
    check_kills(tmp_path, server, 3)


@pytest.mark.slow
def test_killed_at_twenty_moments_and_resumed_is_the_same_as_undisturbed(
    tmp_path: Path, server: Server
):
    check_kills(tmp_path, server, 20)


def test_half_a_line_and_half_a_file_count_as_nothing(tmp_path: Path, server: Server):
    """A power cut can leave what no kill does."""
    undisturbed = project(tmp_path / "undisturbed", server)
    undisturbed.run()
    world = project(tmp_path / "cut", server)
    kill_at(world, server, 20, 0)
    journal = world.path / "data/gather.partial/journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"url": "http://')
    for path in (world.path / "data/raw").rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:100])
    world.run()
    assert world.files() == undisturbed.files()


def test_a_picture_is_stored_where_the_lock_keeps_it(tmp_path: Path, server: Server):
    """Its suffix is another program's, or an older version's."""
    world = project(tmp_path / "first", server)
    world.run()
    lock = (world.path / "data/gathered.csv").read_bytes().replace(b".jpg,cat,", b".jpeg,cat,")
    world.write("data/gathered.csv", lock)
    world.run()
    assert (world.path / "data/gathered.csv").read_bytes() == lock
    assert all((world.path / row["path"]).is_file() for row in world.table() if row["path"])


# --- read strictly ---


def damage(old: bytes, new: bytes, line: int = 2) -> Callable[[bytes], bytes]:
    """Replace a text in the n-th line of a lock, or that whole line if `old` is empty."""

    def change(lock: bytes) -> bytes:
        lines = lock.split(b"\n")
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new) if old else new
        return b"\n".join(lines)

    return change


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "conflict": (damage(b"", b"<<<<<<< HEAD", 3), "line 3: '<<<<<<< HEAD' is left from a merge"),
    "header": (damage(b"path,", b"file,", 1), "line 1: should be 'path,label,"),
    "no header": (lambda lock: lock.partition(b"\n")[2], "line 1: "),
    "empty": (lambda lock: b"", "line 1: should be"),
    "no rows": (lambda lock: lock.partition(b"\n")[0] + b"\n", "it lists no pictures"),
    "nul": (damage(b",ok,", b",o\0k,"), "line 2: holds a NUL"),
    "latin-1": (damage(b",cat,", b",c\xe4t,"), "line 2: not UTF-8"),
    "short row": (damage(b",ok,", b","), "line 2: 11 cells, the header has 12"),
    "long row": (damage(b",ok,", b",ok,,", 4), "line 4: 13 cells, the header has 12"),
    "half a row": (lambda lock: lock[:-60], "cells, the header has 12"),
    "open quote": (damage(b",cat,", b',"cat,'), "not CSV"),
    "semicolons": (lambda lock: lock.replace(b",", b";"), "line 1: should be"),
    "status": (damage(b",ok,", b",fine,"), "line 2: status is 'fine'; it should be ok, gone"),
    "sha256": (damage(b".jpg,,", b".jpg,,0"), "line 2: sha256 is"),
    "bytes": (damage(b",image/jpeg", b".0,image/jpeg"), "line 2: bytes is"),
    "label": (damage(b",cat,", b",../up,"), "line 2: the label '../up' cannot name a folder"),
    "no label": (damage(b",cat,", b",,"), "line 2: the label '' cannot name a folder"),
    "path above": (damage(b"data/raw/cat/", b"data/raw/cat/../../../"), "line 2: path is"),
    "path absolute": (damage(b"data/raw/cat/", b"/etc/"), "line 2: path is '/etc/"),
    "path of another label": (damage(b"data/raw/cat/", b"data/raw/dog/"), "line 2: path is"),
    "no path": (damage(b"data/raw/cat/", b",data/raw/cat/"), "line 2: 13 cells"),
    "two sources": (damage(b"tested:", b"other:", 3), "line 3: its source is 'other:"),
    "split": (damage(b",ok,,,", b",ok,,dev,"), "line 2: split is 'dev'; it should be train, valid"),
}  # fmt: skip


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory):
    """A project that has gathered, with a server that is there no longer."""
    with Server(pictures()) as server:
        world = project(tmp_path_factory.mktemp("gathered") / "project", server)
        world.run()
        list_them(world, server, NAMES[2:])  # which alone would be a new search
    return world


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_lock_stops_the_run_and_nothing_is_deleted_or_searched(
    gathered: World, name: str
):
    change, message = DAMAGED[name]
    sound = (gathered.path / "data/gathered.csv").read_bytes()
    gathered.write("data/gathered.csv", change(sound))
    before = gathered.files()
    line = gathered.refuse()
    assert gathered.files() == before
    gathered.write("data/gathered.csv", sound)
    assert f"data/gathered.csv{', ' if message.startswith('line') else ''}" in line
    assert message in line


def test_a_damaged_lock_stops_a_source_that_does_not_use_it_too(tmp_path: Path):
    world = World(tmp_path / "project")
    fill(world.path / "data/own", "cat/1.jpg", "dog/2.jpg")
    world.use({"kind": "folder"})
    world.write("data/gathered.csv", b"<<<<<<< HEAD\n")
    assert "data/gathered.csv, line 1" in world.refuse()
    assert (world.path / "data/gathered.csv").read_bytes() == b"<<<<<<< HEAD\n"


@pytest.mark.parametrize("ends", [b"\r\n", b"\r"])
def test_a_lock_that_another_program_saved_is_understood(
    tmp_path: Path, server: Server, ends: bytes
):
    world = project(tmp_path / "first", server)
    world.run()
    before = world.files()
    saved = b"\xef\xbb\xbf" + before["data/gathered.csv"].replace(b"\n", ends)
    world.write("data/gathered.csv", saved)
    server.forget()
    world.run()
    assert world.files() == before
    assert not server.asked


def test_without_a_lock_the_source_is_asked_again(tmp_path: Path, server: Server):
    world = project(tmp_path / "first", server)
    world.run()
    before = world.files()
    (world.path / "data/gathered.csv").unlink()
    server.forget()
    world.run()
    assert world.files() == before
    assert server.asked


def test_odd_characters_in_a_row_come_back_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    key = "x:0123456789ab"
    urls = ["a\rb.jpg", "a\nb.jpg", "a\r\nb.jpg", 'a"b.jpg', "a,b.jpg", " a", "猫.jpg", "#"]
    rows = [Row(label="猫", url=url, status="failed", source=key) for url in urls]
    write_lock(rows)
    assert read_lock() == rows


def test_the_lock_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def note(*given: object, name: str = name, real: Callable = real) -> None:
            done.append(name)
            real(*given)

        monkeypatch.setattr(os, name, note)
    write_lock([Row(label="cat", url="u", status="failed", source="x:0123456789ab")])
    assert done == ["fsync", "replace"]
