"""A picture belongs to its split: whatever comes or goes, no other moves, and near duplicates stay together."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pawprint.params import StageError
from pawprint.tables import read_table, write_json, write_table
from stages import split

PARAMS = {"seed": 42, "valid_pct": 0.2, "test_pct": 0.2, "near_duplicates": 4}


def picture(number: int, label: str, phash: int, own: str = "", group: str = "") -> dict[str, str]:
    path = f"data/images/{label}/{number:016x}.jpg"
    return {"path": path, "label": label, "phash": f"{phash:016x}", "split": own, "group": group}


def far(number: int) -> int:
    """Hashes that are at least eight bits apart for numbers below 256."""
    return int(f"{number:02x}" * 8, 16)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("split"))
        Path("params.yaml").write_text(
            "split: {seed: 42, valid_pct: 0.2, test_pct: 0.2, near_duplicates: 4}\n"
        )
        yield Path.cwd()


def fresh() -> None:
    for name in ("data/split.csv", "metrics/split.json"):
        Path(name).unlink(missing_ok=True)


def draw(pictures: list[dict[str, str]]) -> dict[str, str]:
    write_table("data/images.csv", pd.DataFrame(pictures))
    split.main()
    table = read_table("data/split.csv")
    return dict(zip(table["path"], table["split"], strict=True))


def by_name(sides: dict[str, str]) -> dict[str, str]:
    """The sides by what a picture is called under any label."""
    return {split.name_of(path): side for path, side in sides.items()}


def left_out() -> dict[str, str]:
    table = read_table("data/left_out.csv")
    return dict(zip(table["path"], table["reason"], strict=True))


def on_both_sides(pictures: list[dict[str, str]], sides: dict[str, str]) -> list[tuple[str, str]]:
    kept = [
        (one, int(one["phash"], 16))
        for one in pictures
        if one["path"] in sides and not one["split"]
    ]
    return [
        (a["path"], b["path"])
        for a, x in kept
        for b, y in kept
        if sides[a["path"]] != sides[b["path"]]
        and (bin(x ^ y).count("1") <= 4 or (a["group"] and a["group"] == b["group"]))
    ]


BASE = [picture(n, "ab"[n % 2], far(n)) for n in range(40)]
# An edit deletes a picture by its place, files it under the other label, or adds one: a few bits from another one's
# hash, or on its own.
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("delete"), st.integers(0, 60), st.just(0)),
        st.tuples(st.just("add"), st.integers(0, 255), st.integers(0, 2**64 - 1)),
        st.tuples(st.just("copy"), st.integers(0, 60), st.sets(st.integers(0, 63), max_size=6)),
        st.tuples(st.just("bridge"), st.integers(0, 60), st.integers(0, 60)),
        st.tuples(st.just("relabel"), st.integers(0, 60), st.just(0)),
    ),
    max_size=8,
)


def edited(pictures: list[dict[str, str]], edit: tuple, number: int) -> list[dict[str, str]]:
    kind, a, b = edit
    one, label = pictures[a % len(pictures)], "ab"[number % 2]
    if kind == "delete":
        return [each for each in pictures if each is not one]
    if kind == "relabel":
        other = "a" if one["label"] == "b" else "b"
        moved = {
            **one,
            "label": other,
            "path": one["path"].replace(f"/{one['label']}/", f"/{other}/"),
        }
        return [moved if each is one else each for each in pictures]
    if kind == "add":
        return [*pictures, picture(number, label, b)]
    bits = int(one["phash"], 16)
    if kind == "copy":
        for bit in b:
            bits ^= 1 << bit
        return [*pictures, picture(number, label, bits)]
    hashes = [int(each["phash"], 16) for each in pictures]
    close = [other for other in hashes if 5 <= bin(bits ^ other).count("1") <= 8] or [bits]
    differ = [bit for bit in range(64) if (bits ^ close[b % len(close)]) >> bit & 1]
    for bit in differ[: len(differ) // 2]:  # half way between two pictures, and so near both
        bits ^= 1 << bit
    return [*pictures, picture(number, label, bits)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(edits=EDITS)
def test_any_one_edit_leaves_every_picture_in_its_split(root: Path, edits: list[tuple]):
    fresh()
    pictures, before = BASE, draw(BASE)
    for number, edit in enumerate(edits, start=1000):
        pictures = edited(pictures, edit, number)
        after = draw(pictures)
        here = {one["path"] for one in pictures}
        sides, names = by_name(after), {split.name_of(path) for path in here}
        assert {name: sides.get(name) for name in by_name(before) if name in names} == {
            name: side for name, side in by_name(before).items() if name in names
        }
        assert not on_both_sides(pictures, after)
        assert here == set(after) | set(left_out())
        before = after


def test_a_new_picture_near_both_sides_is_the_one_that_yields(root: Path):
    fresh()
    a, b = picture(1, "a", 0), picture(2, "a", 0xFF)
    first = [{**a, "split": "train"}, {**b, "split": "test"}, *BASE[10:]]
    draw(first)
    sides = draw([a, b, *BASE[10:], bridge := picture(3, "a", 0x0F)])
    assert (sides[a["path"]], sides[b["path"]]) == ("train", "test")
    assert bridge["path"] not in sides
    assert left_out()[bridge["path"]] == f"near {b['path']} (test) and near {a['path']} (train)"
    assert draw([a, *BASE[10:], bridge])[bridge["path"]] == "train", (
        "with one side gone it may come in"
    )


def test_a_chain_of_new_pictures_breaks_where_it_would_join_two_sides(root: Path):
    fresh()
    a, b = picture(1, "a", 0), picture(2, "a", 0xFFF)
    draw([{**a, "split": "train"}, {**b, "split": "test"}, *BASE[16:]])
    chain = [picture(3, "a", 0x0F), picture(4, "a", 0xFF)]
    pictures = [a, b, *BASE[16:], *chain]
    sides = draw(pictures)
    assert not on_both_sides(pictures, sides)
    assert len(left_out()) == 1


def test_the_users_own_split_wins_over_near_duplicates_and_earlier_draws(root: Path):
    fresh()
    draw([picture(1, "a", 0, "train"), picture(2, "a", 0), *BASE[10:]])
    pictures = [
        picture(1, "a", 0, "test"),
        picture(2, "a", 0),
        picture(5, "a", 1, "valid"),
        *BASE[10:],
    ]
    sides = draw(pictures)
    assert sides[pictures[0]["path"]] == "test"
    assert sides[pictures[2]["path"]] == "valid"
    assert pictures[1]["path"] in left_out()


def test_pictures_of_one_own_group_stand_on_one_side(root: Path):
    fresh()
    pictures = [picture(n, "ab"[n % 2], far(n), group=f"g{n // 4}") for n in range(80)]
    sides = draw(pictures)
    assert len(sides) == 80
    assert not on_both_sides(pictures, sides)
    assert (
        draw([*pictures, late := picture(99, "a", far(200), group="g3")])[late["path"]]
        == sides[pictures[12]["path"]]
    )


def test_the_same_pictures_give_the_same_bytes(root: Path):
    fresh()
    draw(BASE)
    once = [
        Path(name).read_bytes()
        for name in ("data/split.csv", "data/left_out.csv", "metrics/split.json")
    ]
    fresh()
    draw(BASE[::-1])
    assert once == [
        Path(name).read_bytes()
        for name in ("data/split.csv", "data/left_out.csv", "metrics/split.json")
    ]


def test_an_unknown_split_is_named(root: Path):
    fresh()
    with pytest.raises(StageError, match=r"data/images\.csv: split is 'training'"):
        draw([picture(1, "a", 0, "training"), *BASE])


def test_a_redraw_follows_other_params_only(root: Path):
    fresh()
    before = draw(BASE)
    write_json("metrics/split.json", {"drawn_with": {**PARAMS, "seed": 7}})
    assert set(draw(BASE)) == set(before)
