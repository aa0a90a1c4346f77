"""What gather says if a class has too few pictures, and where the rest is listed."""

from pathlib import Path

import pytest

from pawprint.sources.lock import Row
from pawprint.sources.report import count_rows, say_too_few, without_empty_classes
from tests.support.world import Server, World, picture

GOOD = [Row(label="cat", url="cat/1.jpg", path="p", sha256="0"), Row(label="dog", url="dog/1.jpg")]


def lost(number: int, status: str = "failed", **more: str) -> list[Row]:
    """Rows of a class `fox` that has no pictures."""
    return [
        Row(label="fox", url=f"fox/{i}.jpg", status=status, reason="why", **more)
        for i in range(number)
    ]


def test_five_files_are_named_with_their_reasons_and_the_rest_is_counted():
    line = say_too_few([*GOOD, *lost(12)], 1, is_remote=False)
    assert "gather.min_per_class is 1, but there are 0 fox" in line
    assert [f"fox/{i}.jpg (failed: why)" in line for i in range(6)] == [True] * 5 + [False]
    assert "and 7 more; data/gather.partial/gathered.csv lists all" in line
    assert "\n" not in line


def test_enough_of_each_class_is_nothing_to_say():
    assert say_too_few(GOOD, 1, is_remote=True) == ""


def test_one_class_alone_is_named():
    line = say_too_few(GOOD[:1], 1, is_remote=True)
    assert line == "the source holds 1 class (cat); a classifier needs at least two"


@pytest.mark.parametrize(
    ("rows", "minimum", "is_remote", "advice"),
    [
        (lost(1), 1, True, "run again if the network was down"),
        (lost(1), 2, True, "run again if the network was down, or lower gather.min_per_class"),
        (
            lost(1),
            1,
            False,
            "repair these files, or leave them out by `include` in the source's yaml, or set "
            "gather.min_per_class: 0 to leave out classes without a picture",
        ),
        ([], 2, False, "add pictures, or lower gather.min_per_class"),
        (
            lost(1, "gone", sha256="0"),
            1,
            True,
            "run again if the network was down, or restore data/raw with `dvc pull`, or delete "
            "data/gathered.csv to search again",
        ),
    ],
)
def test_the_advice_fits_the_source(rows: list[Row], minimum: int, is_remote: bool, advice: str):
    line = say_too_few([*GOOD, *rows], minimum, is_remote)
    assert line.endswith(f"; {advice}")


def test_classes_without_a_picture_can_be_left_out(caplog):
    assert without_empty_classes([*GOOD, *lost(3)]) == GOOD
    assert "1 classes have no picture, so left out: fox" in caplog.text


def test_the_counts_name_pictures_that_are_lost_once():
    rows = [*GOOD, *lost(2, "gone", sha256="0"), *lost(1, "gone", sha256="0"), *lost(1, "refused")]
    counted = count_rows(rows)
    assert counted["pictures"] == 2
    assert counted["status"] == {"gone": 3, "ok": 2, "refused": 1}
    assert counted["gone"] == ["fox/0.jpg", "fox/1.jpg"]
    assert counted["refused"] == []


def test_a_class_of_addresses_that_all_fail_is_reported_before_the_stage_stops(tmp_path: Path):
    world = World(tmp_path / "project")
    with Server({"/1.jpg": picture(1)}) as server:
        world.write("data/own/cat.txt", f"{server.base}/1.jpg\n")
        world.write("data/own/dog.txt", "".join(f"{server.base}/{i}.jpg\n" for i in range(2, 9)))
        world.use({"kind": "urls"})
        line = world.fail()
    assert f"0 dog; missing of them: {server.base}/2.jpg (gone: HTTP 404)" in line
    assert "run again if the network was down" in line
    assert "include" not in line
    assert len(world.table("gather.partial/gathered")) == 8
    assert world.metrics()["status"] == {"gone": 7, "ok": 1}
    assert not (world.path / "data/gathered.csv").exists()
