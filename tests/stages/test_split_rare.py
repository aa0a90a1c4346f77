"""A class of one or two pictures trains, then is tested, then validated; `split.rare` says else."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pawprint.params import StageError
from pawprint.state import read_sides
from pawprint.tables import read_table, write_table
from stages import split

COMMON = 20  # pictures of each of two classes that are not rare


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    params()
    return tmp_path


def params(rare: str = "keep", seed: int = 42) -> None:
    Path("params.yaml").write_text(
        f"split: {{seed: {seed}, valid_pct: 0.2, test_pct: 0.2, near_duplicates: 4, rare: {rare}}}"
    )


def pictures(label: str, count: int, start: int, **cells: str) -> list[dict[str, str]]:
    """So many pictures of a class, all far from each other and from those of another start."""
    return [
        {
            "path": f"data/images/{label}/{start + i:016x}.jpg",
            "label": label,
            "phash": f"{start + i:02x}" * 8,
            "split": "",
            "group": "",
            **cells,
        }
        for i in range(count)
    ]


COMMON_ROWS = [*pictures("common", COMMON, 0), *pictures("usual", COMMON, 40)]


def draw(rows: list[dict[str, str]]) -> dict[str, list[str]]:
    """Run split; the splits of each class, sorted."""
    write_table("data/images.csv", pd.DataFrame(rows))
    split.main()
    table = read_table("data/split.csv")
    return {str(label): sorted(part) for label, part in table.groupby("label")["split"]}


def left_out() -> dict[str, str]:
    table = read_table("data/left_out.csv")
    return dict(zip(table["path"], table["reason"], strict=True))


def rare() -> dict[str, list[str]]:
    return json.loads(Path("metrics/split.json").read_text())["rare"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, ["train"]),
        (2, ["test", "train"]),
        (3, ["test", "train", "valid"]),
        (4, ["test", "train", "train", "valid"]),
    ],
)
def test_a_rare_class_trains_then_is_tested_then_validated(
    count: int, expected: list[str], seed: int, capsys: pytest.CaptureFixture[str]
):
    params(seed=seed)
    found = draw([*COMMON_ROWS, *pictures("rare", count, 100)])
    assert found["rare"] == expected
    assert rare()["not_validated"] == (["rare"] if count < 3 else [])
    assert rare()["not_tested"] == (["rare"] if count < 2 else [])
    said = capsys.readouterr().err
    assert ("without a picture in valid" in said) == (count < 3)
    assert ("without a picture in test" in said) == (count < 2)
    assert set(found["common"]) == {"train", "valid", "test"}


def test_near_duplicates_count_as_one_picture_of_a_rare_class():
    twins = pictures("rare", 3, 100)
    for each in twins[1:]:
        each["phash"] = twins[0]["phash"]
    assert draw([*COMMON_ROWS, *twins])["rare"] == ["train"] * 3
    own = pictures("rare", 4, 100, group="one")
    own[3]["group"] = "two"
    Path("data/sides.csv").unlink()
    assert draw([*COMMON_ROWS, *own])["rare"] in (
        ["test", *["train"] * 3],
        [*["test"] * 3, "train"],
    )


def test_a_rare_class_that_grows_gets_what_it_lacks_and_moves_no_picture():
    rows = pictures("rare", 4, 100)
    before: dict[str, str] = {}
    for count, expected in enumerate((["train"], ["test", "train"], ["test", "train", "valid"]), 1):
        assert draw([*COMMON_ROWS, *rows[:count]])["rare"] == expected
        table = read_table("data/split.csv").set_index("path")["split"].to_dict()
        assert {path: table[path] for path in before} == before
        before = table


def test_another_rule_for_rare_classes_moves_no_other_picture():
    rows = [*COMMON_ROWS, *pictures("rare", 2, 100)]
    kept = draw(rows)
    sides = Path("data/sides.csv").read_bytes()
    params("drop")
    dropped = draw(rows)
    assert dropped == {name: kept[name] for name in ("common", "usual")}
    assert set(left_out()) == {row["path"] for row in rows if row["label"] == "rare"}
    assert set(left_out().values()) == {"its class has no picture in valid"}
    assert rare() == {"not_validated": [], "not_tested": [], "left_out": ["rare"]}
    params("keep")
    assert draw(rows) == kept
    assert Path("data/sides.csv").read_bytes() == sides


def test_a_class_that_is_left_out_from_the_start_gets_no_side():
    params("drop")
    draw([*COMMON_ROWS, *pictures("rare", 2, 100)])
    assert len(read_sides()) == 2 * COMMON


def test_fail_stops_and_names_the_class_and_the_ways_out():
    params("fail")
    with pytest.raises(StageError, match=r"class 'rare' has 2 picture\(s\) and none of them in"):
        draw([*COMMON_ROWS, *pictures("rare", 2, 100)])
    assert not Path("data/split.csv").exists()


@pytest.mark.parametrize("side", ["valid", "test"])
def test_a_class_whose_users_split_never_trains_is_left_out_with_its_reason(
    side: str, capsys: pytest.CaptureFixture[str]
):
    stray = pictures("stray", 3, 100, split=side)
    assert "stray" not in draw([*COMMON_ROWS, *stray])
    assert left_out() == {row["path"]: left_out_reason(side) for row in stray}
    assert rare()["left_out"] == ["stray"]
    assert "1 class(es) left out, see data/left_out.csv: stray (its" in capsys.readouterr().err


def left_out_reason(side: str) -> str:
    other = {"valid": "test", "test": "valid"}[side]
    return f"its class has no picture in train and {other}"


def test_a_class_whose_only_picture_is_near_both_sides_is_named_too():
    near = [*pictures("common", 1, 200, split="train"), *pictures("usual", 1, 201, split="test")]
    bridge = pictures("rare", 1, 100)
    for row, phash in zip([*near, *bridge], (0, 0xFF, 0x0F), strict=True):
        row["phash"] = f"{phash:016x}"
    draw([*COMMON_ROWS[1:], *near, *bridge])
    assert rare()["left_out"] == ["rare"]
    assert left_out()[bridge[0]["path"]].startswith("near data/images/")


def test_a_class_whose_users_split_only_trains_is_kept_and_not_measured():
    assert draw([*COMMON_ROWS, *pictures("shy", 5, 100, split="train")])["shy"] == ["train"] * 5
    assert rare() == {"not_validated": ["shy"], "not_tested": ["shy"], "left_out": []}


def test_a_class_that_lost_its_training_picture_is_left_out_until_another_comes():
    rows = pictures("rare", 3, 100)
    draw([*COMMON_ROWS, *rows[:2]])
    sides = {name: side.side for name, side in read_sides().items()}
    tested = [row for row in rows[:2] if sides[Path(row["path"]).stem] == "test"]
    assert "rare" not in draw([*COMMON_ROWS, *tested])
    assert draw([*COMMON_ROWS, *tested, rows[2]])["rare"] == ["test", "train"]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([*pictures("a", 1, 0), *pictures("b", 1, 50)], "no class has a picture in test: that tak"),
        ([*pictures("a", 2, 0), *pictures("b", 2, 50)], "no class has a picture in valid: that ta"),
        (
            [*COMMON_ROWS[:20], *pictures("b", 2, 50, split="test")],
            r"in train: 1, .*1 left out: b \(",
        ),
    ],
)
def test_nothing_to_measure_on_and_a_single_class_end_in_one_line(rows: list, line: str):
    with pytest.raises(StageError, match=line):
        draw(rows)
    assert not Path("data/split.csv").exists()


def test_a_rare_picture_in_a_group_of_another_class_decides_for_the_group():
    mixed = [*pictures("common", 1, 200, group="g"), *pictures("rare", 1, 100, group="g")]
    for seed in range(4):
        params(seed=seed)
        Path("data/sides.csv").unlink(missing_ok=True)
        assert draw([*COMMON_ROWS, *mixed])["rare"] == ["train"]
