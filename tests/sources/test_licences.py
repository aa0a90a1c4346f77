"""Whose pictures these are: one way to write a licence, columns of tables, and gather.licences."""

import json
import re
from pathlib import Path

import pytest

from pawprint.params import StageError, check
from pawprint.sources import Credit, Found, hub, urls
from pawprint.sources.licences import find_credit_columns, is_allowed, normal_licence
from pawprint.sources.lock import ALL_COLUMNS, COLUMNS, LOCK, Row, read_lock, write_lock
from stages.gather import GatherParams
from tests.support.hub import shard
from tests.support.world import Server, World, picture

BY, ZERO = "https://creativecommons.org/licenses/by/4.0/", "CC0 1.0"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("cc-by-4.0", ["CC-BY 4.0", "CC BY 4", BY, f"{BY}deed.en", "ccby4.0"]),
        ("cc-by-sa", ["CC BY-SA", "by-sa", "Attribution-ShareAlike License"]),
        ("cc-by-nc-nd-2.0", ["http://creativecommons.org/licenses/by-nc-nd/2.0/"]),
        ("cc-by-3.0-us", ["https://creativecommons.org/licenses/by/3.0/us/", "CC-BY-3.0-US"]),
        ("cc0-1.0", ["CC0", ZERO, "https://creativecommons.org/publicdomain/zero/1.0/"]),
        ("public-domain", ["Public Domain", "PDM 1.0"]),
        ("mit", ["MIT", "The MIT License", "https://opensource.org/licenses/MIT"]),
        ("apache-2.0", ["Apache License, Version 2.0", "Apache-2.0"]),
        ("unsplash", ["Unsplash License", "https://unsplash.com/license"]),
        ("", ["", "unknown", "N/A", None, float("nan")]),
    ],
)
def test_a_licence_has_one_name_however_it_is_written(name: str, written: list):
    assert {normal_licence(text) for text in [name, *written]} == {name}


def test_a_licence_that_only_begins_like_a_free_one_is_not_taken_for_it():
    assert normal_licence("CC BY 4.0 and all rights reserved") != "cc-by-4.0"
    assert normal_licence("not public domain") != "public-domain"


def test_a_name_without_a_version_stands_for_all_versions_and_nothing_else():
    kept = ["cc-by-4.0", "cc-by-2.0", "cc-by", "cc-by-3.0-us"]
    assert all(is_allowed(licence, ["cc-by"]) for licence in kept)
    assert not any(is_allowed(each, ["cc-by"]) for each in ["cc-by-sa-4.0", "cc-by-nc-4.0", ""])
    assert not is_allowed("cc-by-2.0", ["cc-by-4.0"])


def test_columns_are_known_by_many_names():
    columns = ["ImageID", "OriginalLandingURL", "License", "Author", "Title"]
    found = find_credit_columns(columns)
    assert (found.licence, found.author, found.page) == ("License", "Author", "OriginalLandingURL")
    assert find_credit_columns(["file", "author"], ["author"]).names == []
    assert find_credit_columns(["license"]).read({"license": {"id": 4}}) == Credit()


# --- the lock ---


def row(**more: str) -> Row:
    sha256 = "ab" * 32
    path = f"data/raw/cat/{sha256[:16]}.jpg"
    return Row(path, "cat", "u", sha256=sha256, bytes=1, source="s:0123456789ab", **more)


def test_a_lock_without_credits_has_the_columns_it_always_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write_lock([row()])
    assert LOCK.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert COLUMNS[-1] == "source"
    assert read_lock() == [row()]
    credited = row(licence="cc-by-4.0", author="Ann Lee, Oslo", page="https://x.org/1")
    write_lock([row(), credited])
    assert LOCK.read_text().splitlines()[0] == ",".join(ALL_COLUMNS)
    assert read_lock() == [row(), credited]
    LOCK.write_text(LOCK.read_text().replace("cc-by-4.0", "CC BY 4.0"))  # by hand
    assert read_lock()[1].licence == "cc-by-4.0"
    LOCK.write_text(LOCK.read_text().replace(",author,", ",writer,"))
    with pytest.raises(StageError, match="line 1: should be"):
        read_lock()


# --- what sources say ---


def test_a_list_of_addresses_says_whose_they_are(tmp_path: Path):
    (tmp_path / "list.csv").write_text(
        "url,label,licence,photographer,landing_page\nhttps://x.org/1.jpg,cat,CC BY 4.0,Ann,\n"
    )
    options = check({"kind": "urls"}, urls.UrlsOptions, "", Path("x.yaml"))
    (item,) = urls.find_pictures(options, tmp_path)
    assert item.credit == Credit("cc-by-4.0", "Ann", "")
    options = check({"kind": "urls", "licence_column": "who"}, urls.UrlsOptions, "", Path("x"))
    with pytest.raises(StageError, match="licence_column: who"):
        list(urls.find_pictures(options, tmp_path))


def test_the_options_for_these_columns_do_not_change_the_hash_of_older_yamls():
    assert "licence_column" not in urls.UrlsOptions(kind="urls").model_dump()


def hub_items(folder: Path) -> list[Found]:
    options = check({"kind": "hub", "path": str(folder)}, hub.HubOptions, "", Path("x.yaml"))
    return list(hub.find_pictures(options, Path()))


def test_rows_of_the_hub_have_their_own_licence_or_that_of_the_data_set(tmp_path: Path):
    more = {"license": [1, 0, None], "author": ["Ann", None, "Bo"]}
    features = {"license": {"_type": "ClassLabel", "names": ["CC0", "CC-BY 4.0"]}}
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    content = shard(["cat", "dog", "cat"], more=more, features=features)
    (tmp_path / "train.parquet").write_bytes(content)
    expected = [Credit("cc-by-4.0", "Ann"), Credit("cc0-1.0"), Credit("mit", "Bo")]
    assert [item.credit for item in hub_items(tmp_path)] == expected


def test_metadata_of_pictures_in_folders_may_state_licences_alone(tmp_path: Path):
    for number, name in enumerate(("cat/1.jpg", "dog/2.jpg")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(picture(number))
    rows = [{"file_name": "cat/1.jpg", "license": "CC BY 4.0", "page": "https://x.org/1"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = {item.label: item.credit for item in hub_items(tmp_path)}
    assert items == {"cat": Credit("cc-by-4.0", "", "https://x.org/1"), "dog": Credit()}


# --- gather.licences ---


def test_licences_are_named_in_any_way_and_never_empty():
    params = check(
        {"source": "s", "path": "p", "licences": ["CC0", BY]}, GatherParams, "gather", Path("p")
    )
    assert params.licences == ["cc0-1.0", "cc-by-4.0"]
    with pytest.raises(StageError, match="should name licences"):
        check({"source": "s", "path": "p", "licences": [""]}, GatherParams, "gather", Path("p"))


def name_licences(world: World, text: str) -> None:
    """Write gather.licences into params.yaml, as a person does."""
    path = world.path / "params.yaml"
    path.write_text(re.sub(r"licences: .*", f"licences: {text}", path.read_text()))


def folder_of_four(world: World) -> None:
    licences = {"a/1.jpg": "CC BY 4.0", "a/2.jpg": "CC BY-NC 4.0", "b/3.jpg": "", "b/4.jpg": "CC0"}
    for number, name in enumerate(licences):
        world.write(f"data/own/{name}", picture(number))
    lines = [f"{name},{name[0]},{licence}" for name, licence in licences.items()]
    world.write("data/own/t.csv", "\n".join(["file,label,license", *lines]) + "\n")


def test_only_pictures_with_a_named_licence_are_kept_and_the_others_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    world = World(tmp_path / "project")
    folder_of_four(world)
    world.use({"kind": "folder", "labels": "table", "table": "t.csv"})
    name_licences(world, "[cc-by, CC0]")
    world.run_here()
    rows = world.table()
    assert [each["status"] for each in rows] == ["ok", "withheld", "withheld", "ok"]
    assert [each["reason"] for each in rows[1:3]] == [
        "its licence, cc-by-nc-4.0, is not in gather.licences",
        "no licence is stated",
    ]
    said = capsys.readouterr().err
    assert "gather.licences leaves out 2 pictures: cc-by-nc-4.0 1, none stated 1" in said
    assert len(list((world.path / "data/raw").rglob("*.jpg"))) == 2
    assert world.metrics()["licences"] == {"cc-by-4.0": 1, "cc0-1.0": 1}
    name_licences(world, "[mit]")
    message = world.refuse()
    assert "there are 0 a, 0 b" in message
    assert "name further licences in gather.licences" in message


def test_a_lock_is_followed_whatever_licences_are_named_later(tmp_path: Path):
    with Server({f"/{i}": picture(i) for i in range(4)}) as server:
        world = World(tmp_path / "project")
        licences = ["CC0", "CC BY 4.0", "CC0", "CC BY 4.0"]
        lines = [f"{server.base}/{i},{'ab'[i // 2]},{licences[i]}" for i in range(4)]
        world.write("data/own/t.csv", "\n".join(["url,label,license", *lines]) + "\n")
        world.use({"kind": "urls"})
        name_licences(world, "[cc0]")
        world.run_here()
        first = world.table()
        assert [bool(each["sha256"]) for each in first] == [True, False, True, False]
        assert set(server.asked) == {"/0", "/2"}

        # with more licences, what was left out is fetched, and the rest stays
        name_licences(world, "[]")
        world.run_here()
        later = world.table()
        assert [each["status"] for each in later] == ["ok"] * 4
        assert [later[0], later[2]] == [first[0], first[2]]
        assert len(list((world.path / "data/raw").rglob("*.jpg"))) == 4

        # with fewer, the hash stays in the lock and the picture goes
        name_licences(world, "[cc0]")
        world.run_here()
        assert [each["status"] for each in world.table()] == ["ok", "withheld"] * 2
        assert [each["sha256"] for each in world.table()] == [each["sha256"] for each in later]
        assert len(list((world.path / "data/raw").rglob("*.jpg"))) == 2
        name_licences(world, "[]")
        world.run_here()
        assert world.table() == later


def test_an_older_lock_is_followed_as_it_is(tmp_path: Path):
    with Server({f"/{i}": picture(i) for i in range(2)}) as server:
        world = World(tmp_path / "project")
        lines = [f"{server.base}/{i},{'ab'[i]},CC0" for i in range(2)]
        world.write("data/own/t.csv", "\n".join(["url,label,license", *lines]) + "\n")
        world.use({"kind": "urls"})
        world.run_here()
        lock = world.path / LOCK
        older = [line.rsplit(",", 3)[0] for line in lock.read_text().splitlines()]
        lock.write_text("\n".join(older) + "\n")
        before = lock.read_bytes()
        (world.path / world.table()[0]["path"]).unlink()
        world.run_here()
        assert lock.read_bytes() == before
        assert len(list((world.path / "data/raw").rglob("*.jpg"))) == 2
        name_licences(world, "[cc0]")
        message = world.refuse()
        assert "(withheld: no licence is stated)" in message
        assert "delete data/gathered.csv to ask the source again" in message
        assert lock.read_bytes() == before
