"""Cleaning by machine finds what was planted, and by hand is never overruled or fatal."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pawprint.judging import label_errors
from pawprint.judging.label_errors import judge_labels, odd_ones_out, out_of_fold
from pawprint.params import StageError, load_params
from pawprint.pictures.batches import load_pictures
from pawprint.pictures.properties import find_faults, measure
from pawprint.sources.sample import truth
from pawprint.state import read_decisions
from pawprint.tables import read_table, write_table
from pawprint.training.inference import describe_pictures
from pawprint.training.model import create_model
from pawprint.training.recipe import BodyParams
from stages import clean
from tests.support.pictures import noise
from tests.support.project import PHOTOS, ROOT, Project, edit_yaml

CATS_AND_DOGS = PHOTOS / "cats_and_dogs"


def found_and_precision(judged: pd.DataFrame, wrong: set[str]) -> tuple[float, float]:
    """The share of wrong labels in the top 8 % of the ranking, and of wrong among suspects."""
    bad = judged["path"].isin(wrong)
    found = bad.head(int(0.08 * len(judged))).sum() / bad.sum()
    precision = bad[judged["suspected"] == "yes"].mean()
    suspected = (judged["suspected"] == "yes").sum()
    print(f"found {found:.3f}, precision {precision:.3f}, suspected {suspected}")
    return found, precision


@pytest.mark.slow
def test_what_is_planted_in_the_drawn_sample_is_found(project: Project):
    project.edit(**{"clean.auto": "drop", "clean.threshold": 0.8})
    for name in ("gather", "verify", "split", "features", "clean"):
        project.stage(name)
    data = project.path / "data"
    planted = pd.DataFrame(truth(360, 42)).set_index("url")
    images = read_table(data / "images.csv").set_index("path")["url"]
    judged = read_table(data / "label_errors.csv")
    wrong = {path for path, url in images.items() if planted["fault"][url] == "wrong_label"}
    found, precision = found_and_precision(judged, wrong)
    assert found >= 0.9
    assert precision >= 0.8
    dropped = read_table(data / "findings.csv").query(
        "action == 'delete' and reason.str.startswith('label error')"
    )
    assert set(dropped["path"]) == set(judged.loc[judged["suspected"] == "yes", "path"]), (
        "auto: drop"
    )
    # Of a planted pair it does not matter which of the two is called the copy.
    name = {url: Path(path).stem for path, url in images.items()}
    listed = read_table(data / "findings.csv").query("reason.str.startswith('near duplicate')")
    pairs = {
        frozenset((Path(row.path).stem, row.reason.split()[3].strip(",")))
        for row in listed.itertuples()
    }
    copies = planted[planted["fault"] == "near_duplicate"]
    assert pairs == {frozenset((name[url], name[row.of])) for url, row in copies.iterrows()}
    refused = read_table(data / "rejected.csv").query("reason == 'exact duplicate'")
    twins = planted[planted["fault"] == "exact_duplicate"]
    assert len(refused) == len(twins) == 6
    assert set(refused["url"]) <= set(twins.index) | set(twins["of"])


@pytest.mark.slow
def test_wrong_labels_are_found_among_cats_and_dogs():
    if not CATS_AND_DOGS.is_dir():
        pytest.skip(f"there are no photos in {CATS_AND_DOGS}")
    by_class = [
        sorted(folder.rglob("*.jpg"))[:200]
        for folder in sorted(CATS_AND_DOGS.iterdir())
        if folder.is_dir()
    ]
    paths = [path for files in by_class if len(files) == 200 for path in files]
    true = np.array([path.relative_to(CATS_AND_DOGS).parts[0] for path in paths], dtype=object)
    names = sorted(set(true))
    model, config = create_model(load_params("train", BodyParams, ROOT / "params.yaml"), names)
    pictures = load_pictures(
        [str(path) for path in paths], config.size, config.resize, config.interpolation
    )
    found = describe_pictures(model, pictures, config, torch.device("cpu"))
    plain, mirrored, maps = (each.double().numpy() for each in found)
    for seed in range(3):
        flipped = np.zeros(len(paths), dtype=bool)
        flipped[np.random.default_rng(seed).choice(len(paths), len(paths) // 20, replace=False)] = (
            True
        )
        label = np.where(flipped, np.where(true == names[0], names[1], names[0]), true)
        rows = pd.DataFrame(
            {"path": [str(path) for path in paths], "label": label, "split": "train"}
        )
        judged = judge_labels(
            rows.assign(group=rows["path"]),
            (plain + mirrored) / 2,
            maps,
            folds=5,
            threshold=0.8,
            odd=5,
            seed=42,
        )
        found, precision = found_and_precision(judged, set(rows.loc[flipped, "path"]))
        assert found >= 0.9
        assert precision >= 0.8


@pytest.mark.parametrize("many", [label_errors.MANY, 30], ids=["five drawings", "one"])
def test_a_picture_is_judged_by_models_that_saw_neither_it_nor_its_copies(
    monkeypatch: pytest.MonkeyPatch, many: int
):
    monkeypatch.setattr(label_errors, "MANY", many)
    rng = np.random.default_rng(0)
    seen = rng.normal(0, 1, (60, 20))
    target = np.arange(60) % 2
    groups = np.arange(60)
    seen[1], groups[1], target[0], target[1] = seen[0], 0, 0, 0
    before = out_of_fold(seen, target, groups, 5, seed=42)
    target[0] = target[1] = 1
    after = out_of_fold(seen, target, groups, 5, seed=42)
    assert before.sum(axis=1) == pytest.approx(np.ones(60))
    alone = np.abs(after - before)[:2].max()
    together = np.abs(out_of_fold(seen, target, np.arange(60), 5, 42) - before)[:2].max()
    assert together > alone, "in groups of their own, one copy would teach what the other is"


def test_a_picture_of_none_of_the_classes_is_the_odd_one_out():
    rng = np.random.default_rng(0)
    seen = np.abs(rng.normal(0, 0.1, (60, 32)) + np.repeat(np.eye(2, 32), 30, axis=0) * 3)
    seen[7] = np.eye(32)[20] * 3
    distance, odd = odd_ones_out(seen, np.arange(60), 5)
    assert np.flatnonzero(odd).tolist() == [7]
    assert distance.argmax() == 7
    assert odd_ones_out(seen, np.arange(60), 0.5)[1].sum() > 1, "the threshold is the param's"


def name(i: int) -> str:
    return f"{i:016x}"


def path(i: int, label: str) -> str:
    return f"data/images/{label}/{name(i)}.jpg"


def sound(paths: list[str]) -> pd.DataFrame:
    """data/properties.csv of pictures without a fault, each a little different."""
    measured = [
        {"path": each, "url": each, **measure(noise(i), (400, 300))} for i, each in enumerate(paths)
    ]
    return find_faults(pd.DataFrame(measured))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """24 pictures before clean, all train but 8. A machine suspects the labels of 4, 5 and 16.

    1 is a copy of 0; 3 one of 2, under another label; 17 one of 16, in test. 6 and 7 are a group
    of the user's own.
    """
    monkeypatch.chdir(tmp_path)
    twins = {1: 0, 3: 2, 17: 16}
    rows = []
    for i in range(24):
        label, split = (
            "ab"[i in (3, *range(8, 16)) or i > 19],
            "train" if i < 16 else "test" if i % 4 < 2 else "valid",
        )
        group = name(twins.get(i, 6 if i == 7 else i))
        bits = int(f"{twins.get(i, i):02x}" * 8, 16) ^ (i in twins)
        rows.append((path(i, label), label, group, split, f"{bits:016x}"))
    table = pd.DataFrame(rows, columns=["path", "label", "group", "split", "phash"])
    write_table("data/split.csv", table.drop(columns="phash"))
    write_table("data/images.csv", table[["path", "phash"]])
    write_table("data/properties.csv", sound(table["path"].tolist()))
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")

    def judge(rows: pd.DataFrame, *_: object, **__: object) -> pd.DataFrame:
        assert "test" not in set(rows["split"])
        suspected = [Path(each).stem in (name(4), name(5)) for each in rows["path"]]
        odd = [Path(each).stem == name(9) for each in rows["path"]]
        return rows[["path", "label", "split"]].assign(
            suggestion="b",
            probability=0.9,
            score=0.1,
            issue="",
            suspected=np.where(suspected, "yes", ""),
            distance=np.where(odd, 0.8, 0.2),
            odd=np.where(odd, "yes", ""),
        )

    monkeypatch.setattr(clean, "judge_labels", judge)
    monkeypatch.setattr(clean, "read_seen", lambda paths: (None, None, False))
    return tmp_path


def run(auto: str, near: str = "drop", *decisions: str) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Run clean; cleaned and findings by picture, and its figures."""
    edit_yaml(Path("params.yaml"), **{"clean.auto": auto, "clean.near_duplicates": near})
    Path("data/decisions.csv").write_text(
        "\n".join(["image,action,label,by,note", *decisions]) + "\n"
    )
    clean.main()
    tables = [read_table(f"data/{file}.csv") for file in ("cleaned", "findings")]
    for table in tables:
        table.index = [int(Path(each).stem, 16) for each in table["path"]]
    split, cleaned = (
        read_table("data/split.csv").set_index("path")["split"],
        tables[0].set_index("path")["split"],
    )
    assert cleaned.equals(split[cleaned.index]), "cleaning moves no picture to another split"
    return *tables, json.loads(Path("metrics/clean.json").read_text())


def test_flag_changes_nothing_and_lists_everything(world: Path):
    cleaned, findings, figures = run("flag", "flag")
    assert len(cleaned) == 24
    assert set(cleaned["action"]) == {""}
    assert findings["action"].to_dict() == dict.fromkeys([1, 3, 4, 5, 9, 17], "flag")
    assert figures["flagged"] == {"label error": 2, "near duplicate": 3, "odd one out": 1}
    assert (figures["deleted"], figures["relabelled"], figures["by"]) == (0, 0, {})


def test_drop_deletes_with_reasons(world: Path):
    cleaned, findings, figures = run("drop")
    assert set(range(24)) - set(cleaned.index) == {1, 4, 5}
    assert findings.loc[4, ["label", "action", "reason"]].tolist() == [
        "a",
        "delete",
        "label error: looks like b (0.90)",
    ]
    assert findings.loc[1, "reason"] == f"near duplicate: of {name(0)}"
    assert (figures["pictures"], figures["deleted"]) == (21, 3)
    assert figures["by"] == {"label error": 2, "near duplicate": 1}


def test_relabel_gives_the_suggested_label(world: Path):
    cleaned, findings, figures = run("relabel")
    assert cleaned.loc[[4, 5], "label"].tolist() == ["b", "b"]
    assert findings.loc[5, ["label", "action", "new_label"]].tolist() == ["a", "relabel", "b"]
    assert figures["relabelled"] == 2


def test_near_duplicates_are_dropped_from_training_alone_and_never_for_a_group_or_another_label(
    world: Path,
):
    cleaned, findings, _ = run("flag", "drop")
    assert 1 not in cleaned.index
    assert {3, 6, 7, 16, 17} <= set(cleaned.index)
    assert findings.loc[3, ["action", "reason"]].tolist() == [
        "flag",
        f"near duplicate: of {name(2)}, a a",
    ]
    assert findings.loc[17, "action"] == "flag"
    assert 7 not in findings.index, "a group of the user's own holds no copies"


def test_of_a_copy_whose_original_is_deleted_nothing_is_dropped(world: Path):
    cleaned, _, _ = run("flag", "drop", f"{name(0)},delete,,ada,")
    assert 0 not in cleaned.index
    assert 1 in cleaned.index


def test_a_persons_word_wins_and_pictures_that_are_gone_are_reported(world: Path):
    cleaned, findings, figures = run(
        "drop",
        "drop",
        f"{name(4)},keep,,ada,a dark one",
        f"{name(1)},keep,,ada,",
        f"{name(16)},delete,,ada,blurred",
        f"{name(18)},relabel,b,ada,",
        "00000000deadbeef,delete,,ada,",
        "00000000deadbee0,relabel,b,ada,",
    )
    assert set(range(24)) - set(cleaned.index) == {5, 16}
    assert cleaned.loc[4, ["label", "action", "reason"]].tolist() == [
        "a",
        "keep",
        "decision: a dark one",
    ]
    assert cleaned.loc[18, "label"] == "b"
    assert findings.loc[16, ["split", "action", "reason"]].tolist() == [
        "test",
        "delete",
        "decision: blurred",
    ]
    assert figures["decisions_about_missing_pictures"] == ["00000000deadbee0", "00000000deadbeef"]
    assert figures["by"] == {"decision": 4, "label error": 1}


def damage(**columns: dict[int, object]) -> None:
    """Change cells of data/properties.csv, by column and picture."""
    table = read_table("data/properties.csv")
    for column, cells in columns.items():
        for i, value in cells.items():
            table.loc[[each.endswith(f"{name(i)}.jpg") for each in table["path"]], column] = value
    write_table("data/properties.csv", table)


@pytest.mark.parametrize("auto", ["flag", "drop", "relabel"])
def test_faulty_pictures_are_listed_in_every_split_and_never_touched(world: Path, auto: str):
    damage(
        faults={0: "dark", 10: "blurry low_information", 17: "odd_size", 11: "light"},
        dark_score={0: "0.12"},
        sharpness={10: "0.07"},
        size={17: "48"},
    )
    cleaned, findings, figures = run(auto, "drop", f"{name(11)},keep,,ada,a white bear")
    assert {0, 10, 11, 17} <= set(cleaned.index)
    assert cleaned.loc[[0, 10, 17], "action"].tolist() == ["", "", ""]
    assert findings.loc[0, ["action", "split", "new_label", "reason"]].tolist() == [
        "flag",
        "train",
        "",
        "dark picture: 99 % of it is darker than 0.12, where 1 is white",
    ]
    assert len(findings.loc[10]) == 2, "each of its faults"
    reasons = findings.loc[17].set_index("reason")
    assert "odd size: about 48 pixels a side, where 346 is usual" in reasons.index
    assert set(reasons["split"]) == {"test"}
    assert findings.loc[11, "reason"] == "decision: a white bear", "a person's word is the last"
    kinds = {"dark picture": 1, "blurry picture": 1, "low information": 1, "odd size": 1}
    assert kinds.items() <= figures["flagged"].items()


def test_a_class_that_goes_with_the_light_is_listed_without_a_path_and_loses_no_picture(
    world: Path,
):
    columns = ["path", "label", "group", "split"]
    sides = ["train"] * 58 + ["valid", "test"]
    rows = [(path(i, "ab"[i % 2]), "ab"[i % 2], name(i), sides[i]) for i in range(60)]
    table = pd.DataFrame(rows, columns=columns)
    write_table("data/split.csv", table)
    write_table("data/images.csv", table[["path"]].assign(phash=[f"{i:016x}" for i in range(60)]))
    write_table("data/properties.csv", sound(table["path"].tolist()))
    damage(brightness={i: f"{0.05 + i / 1000:.3f}" for i in range(0, 60, 2)})
    edit_yaml(Path("params.yaml"), **{"clean.auto": "drop"})
    (world / "data/decisions.csv").write_text("image,action\n")
    clean.main()
    (found,) = read_table("data/findings.csv").query("path == ''").to_dict("records")
    assert (found["label"], found["split"], found["action"], found["new_label"]) == (
        "a",
        "",
        "flag",
        "",
    )
    assert found["reason"] == (
        "correlation with brightness: 100 % of a have a brightness of 0.05 to 0.11 (1 is white), "
        "and 0 % of the other pictures"
    )
    figures = json.loads(Path("metrics/clean.json").read_text())
    assert figures["label_correlations"]["brightness"] == {"label": "a", "strength": 1}
    assert figures["flagged"]["correlation with brightness"] == 1
    assert len(read_table("data/cleaned.csv")) == 58, "without the label errors 4 and 5"


def test_properties_of_other_pictures_are_an_error_that_says_what_to_do(world: Path):
    table = read_table("data/properties.csv")
    write_table("data/properties.csv", table.head(20))
    with pytest.raises(StageError, match=r"properties\.csv lacks .*`dvc repro verify` makes it"):
        run("flag")


def test_the_machine_takes_no_last_picture_of_a_class_in_a_split(
    world: Path, monkeypatch: pytest.MonkeyPatch
):
    split = read_table("data/split.csv")
    rare = [path(i, "a") for i in (4, 5)]
    for each, side in zip(rare, ("train", "valid"), strict=True):
        split.loc[split["path"] == each, ["label", "split"]] = ["rare", side]
    write_table("data/split.csv", split)
    for auto in ("drop", "relabel"):
        cleaned, findings, figures = run(auto, "flag")
        assert cleaned.loc[[4, 5], "label"].tolist() == ["rare", "rare"]
        assert findings.loc[[4, 5], "action"].tolist() == ["flag", "flag"]
        assert findings.loc[4, "reason"] == (
            "label error: looks like b (0.90); the last rare in train"
        )
        assert figures["flagged"]["label error"] == 2


def test_of_suspects_that_are_a_class_whole_all_but_one_go_and_a_persons_word_counts(world: Path):
    split = read_table("data/split.csv")
    split.loc[split["path"].isin([path(i, "a") for i in (4, 5)]), "label"] = "rare"
    write_table("data/split.csv", split)
    cleaned, _, _ = run("drop", "flag")
    assert (4 in cleaned.index) + (5 in cleaned.index) == 1
    cleaned, _, _ = run("drop", "flag", f"{name(4)},keep,,ada,")
    assert 4 in cleaned.index
    assert 5 not in cleaned.index


def test_a_person_may_empty_a_class_which_is_said(world: Path, capsys: pytest.CaptureFixture[str]):
    gone = (f"{name(22)},delete,,ada,", f"{name(23)},delete,,ada,")
    cleaned, _, _ = run("flag", "flag", *gone)
    assert not ((cleaned["label"] == "b") & (cleaned["split"] == "valid")).any()
    assert "last picture of 1 class(es): b (valid)" in capsys.readouterr().err


def test_decisions_that_leave_nothing_to_train_or_judge_with_are_an_error(world: Path):
    valid = (f"{name(i)},delete,,ada," for i in (18, 19, 22, 23))
    with pytest.raises(StageError, match=r"cleaning leaves no picture in valid; see data/dec"):
        run("drop", "drop", *valid)
    train = (f"{name(i)},delete,,ada," for i in (3, *range(8, 16)))
    with pytest.raises(StageError, match=r"cleaning leaves 1 class\(es\) in train"):
        run("flag", "flag", *train)


def test_a_mistake_in_decisions_is_named_with_its_line(world: Path):
    with pytest.raises(StageError, match=r"decisions\.csv, line 3: action is 'burn'"):
        run("flag", "flag", f"{name(1)},keep,,ada,", f"{name(2)},burn,,ada,")
    with pytest.raises(StageError, match=r"line 2: label is 'cat'; it should be a, b"):
        run("flag", "flag", f"{name(1)},relabel,cat,ada,")


def test_a_label_that_is_none_of_a_thousand_classes_gets_a_hint_and_no_list_of_them(world: Path):
    Path("data/decisions.csv").write_text(f"image,action,label\n{name(1)},relabel,clas 77\n")
    with pytest.raises(StageError, match=r"did you mean class 77\? it should be .* and 990 more"):
        read_decisions(classes=[f"class {i}" for i in range(1000)])


def test_the_stage_runs_on_a_small_project_and_twice_the_same(small_seen: Project):
    small = small_seen
    small.edit(**{"clean.folds": 2})
    made = [small.path / "data" / f"{file}.csv" for file in ("cleaned", "findings", "label_errors")]
    small.stage("clean")
    once = [file.read_bytes() for file in made]
    small.stage("clean")
    assert once == [file.read_bytes() for file in made]
    assert (
        len(read_table(made[2]))
        == (read_table(small.path / "data/split.csv")["split"] != "test").sum()
    )
