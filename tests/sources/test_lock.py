"""data/gathered.csv as a lock: the same pictures on every clone, also after killed runs."""

import contextlib
import json
import random
import shutil
import time
from functools import partial
from pathlib import Path

import pytest

from tests.support.world import Handler, Server, World, picture

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
