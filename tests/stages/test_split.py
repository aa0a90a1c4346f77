"""A picture keeps its side, whatever comes or goes, and near duplicates stay together."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pawprint.params import StageError
from pawprint.pictures import picture_name
from pawprint.state import Side, read_sides, write_sides
from pawprint.tables import read_table, write_table
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
    for name in ("data/split.csv", "data/sides.csv", "metrics/split.json"):
        Path(name).unlink(missing_ok=True)


def draw(pictures: list[dict[str, str]]) -> dict[str, str]:
    write_table("data/images.csv", pd.DataFrame(pictures))
    split.main()
    table = read_table("data/split.csv")
    return dict(zip(table["path"], table["split"], strict=True))


def by_name(sides: dict[str, str]) -> dict[str, str]:
    """The sides by what a picture is called under any label."""
    return {picture_name(path): side for path, side in sides.items()}


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
# An edit deletes a picture by its place, files it under the other label, or adds one: a few bits
# from another one's hash, or on its own.
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
        sides, names = by_name(after), {picture_name(path) for path in here}
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
    assert bridge["path"] not in draw([a, *BASE[10:], bridge]), "the absent one may come back"


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
    written = ("data/split.csv", "data/sides.csv", "data/left_out.csv", "metrics/split.json")
    once = [Path(name).read_bytes() for name in written]
    fresh()
    draw(BASE[::-1])
    assert once == [Path(name).read_bytes() for name in written]


def test_an_unknown_split_is_named(root: Path):
    fresh()
    with pytest.raises(StageError, match=r"data/images\.csv: split is 'training'"):
        draw([picture(1, "a", 0, "training"), *BASE])


# --- the sides: what is remembered, and what damages it ---


def params(**changes: object) -> None:
    """Write params.yaml with these values changed."""
    values = ", ".join(f"{key}: {value}" for key, value in {**PARAMS, **changes}.items())
    Path("params.yaml").write_text(f"split: {{{values}}}\n")


def moved(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The pictures, by name, whose side is another one."""
    then, now = by_name(before), by_name(after)
    return [name for name in then if name in now and now[name] != then[name]]


def test_pictures_that_were_absent_for_a_while_come_back_to_their_sides(root: Path):
    fresh()
    before = draw(BASE)
    for start in (0, 10, 20):
        draw(BASE[:start] + BASE[start + 15 :])
        assert moved(before, draw(BASE)) == []


def test_another_source_and_back_moves_nothing(root: Path):
    fresh()
    before = draw(BASE)
    draw([picture(500 + n, "xy"[n % 2], far(60 + n)) for n in range(40)])
    assert moved(before, draw(BASE)) == []


def test_a_reencoded_copy_gets_the_side_of_the_picture_it_replaces(root: Path):
    fresh()
    before = draw(BASE)
    others = [picture(1000 + n, "ab"[n % 2], far(n) ^ (1 << n)) for n in range(40)]
    after = draw(others)
    for old, new in zip(BASE, others, strict=True):
        assert after[new["path"]] == before[old["path"]]
    assert moved(before, draw(BASE)) == []


def test_a_new_picture_near_an_absent_one_follows_it(root: Path):
    fresh()
    before = draw(BASE)
    copy = picture(1000, "a", far(6) ^ 3)
    after = draw([*BASE[:6], *BASE[7:], copy])
    assert after[copy["path"]] == before[BASE[6]["path"]]


def test_an_absent_picture_pushes_out_none_that_has_a_side(root: Path):
    fresh()
    one, two = picture(1, "a", 0, "train"), picture(2, "a", 1, "test")
    draw([one, two, *BASE[10:]])
    after = draw([{**one, "split": ""}, *BASE[10:]])
    assert after[one["path"]] == "train"
    assert left_out() == {}


def test_what_other_stages_write_and_git_merges_moves_nothing(root: Path):
    fresh()
    before = draw(BASE)
    for name in ("metrics/split.json", "data/split.csv"):
        Path(name).write_text("<<<<<<< HEAD\nneither\n=======\nother\n>>>>>>> theirs\n")
        assert moved(before, draw(BASE)) == []
        Path(name).unlink()
        assert moved(before, draw(BASE)) == []


def test_two_branches_that_each_added_pictures_merge_line_by_line(root: Path):
    fresh()
    draw(BASE)
    common = Path("data/sides.csv").read_text().splitlines()
    added, drawn = [], []
    for number in (0, 1):
        Path("data/sides.csv").write_text("\n".join(common) + "\n")
        new = [
            picture(600 + 40 * number + n, "ab"[n % 2], far(60 + 40 * number + n))
            for n in range(12)
        ]
        drawn.append(draw([*BASE, *new]))
        added.append((new, set(Path("data/sides.csv").read_text().splitlines()) - set(common)))
    merged = common[:1] + sorted({*common[1:], *added[0][1], *added[1][1]})
    Path("data/sides.csv").write_text("\n".join(merged) + "\n")
    after = draw([*BASE, *added[0][0], *added[1][0]])
    assert moved(drawn[0], after) == []
    assert moved(drawn[1], after) == []
    assert Path("data/sides.csv").read_text().splitlines() == merged


def test_the_file_of_sides_only_grows(root: Path):
    fresh()
    draw(BASE)
    before = set(Path("data/sides.csv").read_text().splitlines())
    draw([*BASE[5:], picture(700, "a", far(77))])
    after = Path("data/sides.csv").read_text().splitlines()
    assert before < set(after)
    assert after[1:] == sorted(after[1:])


HEADER = "line 1: should be 'image,phash"
DAMAGES = {
    "an unknown side": (
        lambda text: text.replace(",train,", ",training,", 1),
        "side is 'training'",
    ),
    "no side": (lambda text: text.replace(",train,", ",,", 1), "side is ''"),
    "a conflict": (lambda text: "<<<<<<< HEAD\n" + text, "line 1: '<<<<<<< HEAD' is left from"),
    "half a conflict": (lambda text: text + "=======\n", "line 42: '=======' is left from"),
    "a short line": (lambda text: text + "abc\n", "line 42: 1 cells"),
    "no header": (lambda text: text.split("\n", 2)[2], HEADER),
    "cut short": (lambda text: text[:-5], "line 41: drawn_with is cut"),
    "semicolons": (lambda text: text.replace(",", ";"), HEADER),
    "a NUL": (lambda text: text.replace("train", "tr\0in", 1), "holds a NUL"),
    "an empty file": (lambda text: "", HEADER),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_of_sides_stops_with_its_line_and_is_left_as_it_is(root: Path, kind: str):
    fresh()
    draw(BASE)
    path, (damage, message) = Path("data/sides.csv"), DAMAGES[kind]
    broken = damage(path.read_text()).encode()
    path.write_bytes(broken)
    with pytest.raises(StageError, match=r"^data/sides\.csv, line \d+: ") as found:
        draw(BASE)
    assert message in str(found.value)
    assert path.read_bytes() == broken


def test_a_picture_with_two_sides_is_named_and_the_same_line_twice_is_no_matter(root: Path):
    fresh()
    before = draw(BASE)
    path = Path("data/sides.csv")
    line = path.read_text().splitlines()[1]
    path.write_text(path.read_text() + line + "\n")
    assert moved(before, draw(BASE)) == []
    side = line.split(",")[3]
    other = {"train": "test", "test": "valid", "valid": "train"}[side]
    path.write_text(path.read_text() + line.replace(f",{side},", f",{other},") + "\n")
    with pytest.raises(StageError, match=f"listed twice, as {side} and as {other}"):
        draw(BASE)


def test_what_a_spreadsheet_makes_of_the_line_ends_is_read(root: Path):
    fresh()
    before = draw(BASE)
    path = Path("data/sides.csv")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert moved(before, draw(BASE)) == []


def test_other_params_say_how_many_pictures_move_and_then_move_them(root: Path, capsys):
    fresh()
    before = draw(BASE)
    params(seed=7)
    try:
        after = draw(BASE)
    finally:
        params()
    count = len(moved(before, after))
    assert count > 0
    said = capsys.readouterr().err
    assert f"split: {count} of 40 pictures change sides (drawn with seed=42" in said
    assert {side.drawn_with.split()[0] for side in read_sides().values()} == {"seed=7"}


def test_a_run_that_moves_nothing_says_nothing(root: Path, capsys):
    fresh()
    draw(BASE)
    draw(BASE[3:])
    draw(BASE)
    assert capsys.readouterr().err == ""


def test_sides_are_written_as_they_are_read(root: Path, tmp_path: Path):
    with_ = "seed=1 valid_pct=0.2 test_pct=0.2 near_duplicates=4"
    sides = {
        "b": Side("b", "0" * 16, "a, group", "valid", with_),
        "a": Side("a", "f" * 16, "", "train", with_),
    }
    write_sides(sides, tmp_path / "sides.csv")
    assert read_sides(tmp_path / "sides.csv") == sides
    assert (tmp_path / "sides.csv").read_text().splitlines()[1].startswith("a,")
    assert read_sides(tmp_path / "absent.csv") == {}
