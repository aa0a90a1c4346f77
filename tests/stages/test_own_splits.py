"""What the source gives stands; what it lacks is drawn from its train."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from pawprint.tables import read_table, write_table
from stages import split

PARAMS = "split: {seed: 42, valid_pct: 0.2, test_pct: 0.1, near_duplicates: 4}\n"
Row = dict[str, str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)


def rows(own: str, count: int, start: int, label: str = "") -> list[Row]:
    """Pictures of two classes by turns, or of one, with hashes that are far from each other."""
    return [
        {
            "path": f"data/images/{label or 'ab'[n % 2]}/{n:016x}.jpg",
            "label": label or "ab"[n % 2],
            "phash": f"{n:02x}" * 8,
            "split": own,
            "group": "",
        }
        for n in range(start, start + count)
    ]


def draw(pictures: list[Row]) -> dict[str, str]:
    """The split of every picture, by its path."""
    write_table("data/images.csv", pd.DataFrame(pictures))
    split.main()
    table = read_table("data/split.csv")
    return dict(zip(table["path"], table["split"], strict=True))


def went(pictures: list[Row], sides: dict[str, str]) -> dict[str, dict[str, int]]:
    """How many pictures of each split of the source's own went to which split."""
    counts: dict[str, Counter[str]] = {}
    for row in pictures:
        counts.setdefault(row["split"], Counter())[sides[row["path"]]] += 1
    return {own: dict(sorted(count.items())) for own, count in counts.items()}


TRAIN, VALID, TEST = rows("train", 100, 0), rows("valid", 6, 100), rows("test", 40, 110)
GIVEN = {
    "train and valid": (
        TRAIN + VALID,
        {"train": {"test": 10, "train": 90}, "valid": {"valid": 6}},
        "the source gives train and valid but no test; drawn from train: 10 pictures for test "
        "(split.test_pct is 0.1)",
    ),
    "train and test": (
        TRAIN + TEST,
        {"train": {"train": 80, "valid": 20}, "test": {"test": 40}},
        "the source gives train and test but no valid; drawn from train: 20 pictures for valid "
        "(split.valid_pct is 0.2)",
    ),
    "train alone": (
        TRAIN,
        {"train": {"test": 10, "train": 70, "valid": 20}},
        "the source gives train but no valid or test; drawn from train: 20 pictures for valid "
        "(split.valid_pct is 0.2) and 10 pictures for test (split.test_pct is 0.1)",
    ),
    "all three": (
        TRAIN + VALID + TEST,
        {"train": {"train": 100}, "valid": {"valid": 6}, "test": {"test": 40}},
        "",
    ),
}


@pytest.mark.parametrize("given", GIVEN)
def test_what_the_source_lacks_is_drawn_from_its_train(given: str, capsys):
    pictures, expected, line = GIVEN[given]
    assert went(pictures, draw(pictures)) == expected
    assert line in capsys.readouterr().err
    assert draw(pictures) == draw(pictures[::-1]), "and the draw does not move"


def test_the_share_is_that_of_each_class():
    pictures = rows("train", 50, 0, "a") + rows("train", 20, 60, "b") + VALID
    sides = draw(pictures)
    tested = Counter(row["label"] for row in pictures if sides[row["path"]] == "test")
    assert tested == {"a": 5, "b": 2}


def test_where_cells_are_empty_they_are_what_is_drawn(capsys):
    pictures = TRAIN + rows("", 40, 110)
    sides = draw(pictures)
    assert went(pictures, sides)["train"] == {"train": 100}
    assert {sides[row["path"]] for row in pictures} == {"train", "valid", "test"}
    assert "drawn from train" not in capsys.readouterr().err


def test_a_copy_of_a_valid_picture_in_train_stays_in_train():
    copies = [{**row, "path": row["path"].replace("0000", "f000", 1)} for row in VALID]
    copies = [{**row, "split": "train", "label": row["label"]} for row in copies]
    sides = draw(TRAIN + VALID + copies)
    assert {sides[row["path"]] for row in copies} == {"train"}
    assert {sides[row["path"]] for row in VALID} == {"valid"}


def test_a_split_that_the_source_gives_later_wins_over_the_drawn_one():
    draw(TRAIN + VALID)
    pictures = TRAIN + VALID + TEST
    assert went(pictures, draw(pictures)) == GIVEN["all three"][1]
