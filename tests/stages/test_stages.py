"""The stages before training on small input: what they keep, refuse and write."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pawprint.judging.near_duplicates import find_groups
from pawprint.params import StageError
from pawprint.state import SplitParams
from pawprint.tables import read_table
from stages.split import assign
from tests.support.project import PHOTOS, Project, make_pictures

PARAMS = SplitParams(seed=1, valid_pct=0.2, test_pct=0.2, near_duplicates=4)


def table(project: Project, name: str) -> pd.DataFrame:
    return read_table(project.path / f"data/{name}.csv")


def test_gather_stores_by_content_and_forgets_what_is_gone(small: Project):
    own = small.path / "data/own"
    (own / "red/copy.jpg").write_bytes((own / "red/000.jpg").read_bytes())
    small.stage("gather")
    gathered = table(small, "gathered")
    assert len(gathered) == 61
    assert gathered["path"].nunique() == 60
    assert (gathered["status"] == "ok").all()
    (own / "green/007.jpg").unlink()
    small.stage("gather")
    stored = {
        path.relative_to(small.path).as_posix() for path in (small.path / "data/raw").rglob("*.jpg")
    }
    assert stored == set(table(small, "gathered")["path"])
    assert len(stored) == 59


def test_gather_names_a_missing_folder_and_a_lone_class(small: Project):
    small.edit(**{"gather.path": "nowhere"})
    assert "gather.path is 'nowhere', which is not a folder" in small.failing_stage("gather")
    make_pictures(small.path / "one", {"red": 2})
    small.edit(**{"gather.path": "one"})
    assert "1 class (red)" in small.failing_stage("gather")


def test_a_picture_without_a_label_is_named(small: Project):
    (small.path / "data/own/stray.JPG").write_bytes(b"")
    assert "data/own/stray.JPG has no label" in small.failing_stage("gather")


def test_an_unknown_key_in_a_sources_yaml_is_named(small: Project):
    small.edit("data/sources/folder.yaml", lables="parent")
    line = small.failing_stage("gather")
    assert "data/sources/folder.yaml" in line
    assert "unknown key lables" in line


def test_verify_says_why_for_every_picture_it_refuses(small: Project):
    own = small.path / "data/own"
    sound = (own / "red/001.jpg").read_bytes()
    (own / "red/cut.jpg").write_bytes(sound[: len(sound) // 2])
    (own / "red/page.jpg").write_text("<!doctype html><title>404</title>")
    (own / "red/nothing.jpg").write_bytes(b"")
    (own / "green/nothing.jpg").write_bytes(b"")
    (own / "red/again.jpg").write_bytes(sound)
    (own / "green/both.jpg").write_bytes((own / "red/002.jpg").read_bytes())
    Image.new("RGB", (9, 9)).save(own / "red/tiny.png")
    Image.open(own / "red/003.jpg").rotate(45).save(own / "red/really_png.jpg", "PNG")
    small.stage("gather")
    small.stage("verify")
    why = {row.url: row.reason for row in table(small, "rejected").itertuples()}
    assert why == {
        "green/both.jpg": "two labels",
        "red/002.jpg": "two labels",
        "red/again.jpg": "exact duplicate",
        "red/cut.jpg": "broken",
        "red/nothing.jpg": "empty",
        "green/nothing.jpg": "empty",
        "red/page.jpg": "not a picture",
        "red/tiny.png": "too small",
    }
    kept = table(small, "images")
    assert "red/really_png.jpg" in set(kept["url"])
    for path in kept["path"]:
        with Image.open(small.path / path) as image:
            assert image.format == "JPEG"
            assert image.mode == "RGB"


def test_verify_turns_pictures_upright_and_lays_transparency_on_white(small: Project):
    own = small.path / "data/own"
    lying = Image.new("RGB", (200, 100))
    exif = lying.getexif()
    exif[0x0112] = 6
    lying.save(own / "red/lying.jpg", exif=exif)
    Image.new("RGBA", (100, 100), (0, 0, 0, 0)).save(own / "red/clear.png")
    small.stage("gather")
    small.stage("verify")
    kept = table(small, "images").set_index("url")
    assert kept.loc["red/lying.jpg", ["width", "height"]].tolist() == ["100", "200"]
    with Image.open(small.path / kept.loc["red/clear.png", "path"]) as image:
        assert image.getpixel((50, 50)) == (255, 255, 255)


def test_a_class_of_one_picture_is_refused_by_name(small: Project):
    for path in sorted((small.path / "data/own/red").iterdir())[1:]:
        path.unlink()
    small.stage("gather")
    small.stage("verify")
    line = small.failing_stage("split")
    assert "class 'red' has 1 picture(s)" in line
    assert "split.valid_pct" in line or "split.test_pct" in line
    assert not (small.path / "data/split.csv").exists()


def images(n: int) -> pd.DataFrame:
    """A table of n pictures in two classes without near duplicates."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "path": [f"data/images/{'ab'[i % 2]}/{i:016x}.jpg" for i in range(n)],
            "label": ["ab"[i % 2] for i in range(n)],
            "phash": [f"{value:016x}" for value in rng.integers(0, 2**63, n)],
            "group": [f"{i:016x}" for i in range(n)],
            "split": "",
        }
    )


def test_the_split_is_stratified():
    drawn = images(200).assign(split=lambda rows: assign(rows, PARAMS))
    counts = pd.crosstab(drawn["label"], drawn["split"])
    assert counts.loc["a"].to_dict() == {"train": 60, "valid": 20, "test": 20}
    assert counts.loc["b"].to_dict() == {"train": 60, "valid": 20, "test": 20}


def test_a_picture_keeps_its_split_when_others_come_and_go():
    before = images(100)
    earlier = dict(zip(before["path"], assign(before, {}, PARAMS), strict=True))
    after = images(140).drop(index=[3, 50, 77]).reset_index(drop=True)
    drawn = dict(zip(after["path"], assign(after, earlier, PARAMS), strict=True))
    assert {path: drawn[path] for path in drawn if path in earlier} == {
        path: split for path, split in earlier.items() if path in drawn
    }


def test_near_duplicates_share_a_group_and_unrelated_pictures_do_not():
    hashes = ["0000000000000000", "00000000000000ff", "000000000000000f", "ffffffffffffffff"]
    assert find_groups(hashes, [""] * 4, 4) == [0, 0, 0, 3]
    assert find_groups(hashes, [""] * 4, 3) == [0, 1, 2, 3]
    assert find_groups(hashes, ["", "day", "", "day"], 3) == [0, 1, 2, 1]


def test_the_users_own_split_wins_and_a_wrong_one_is_named():
    own = images(20)
    own.loc[0, "split"] = "test"
    assert assign(own, {own["path"][0]: "train"}, PARAMS)[0] == "test"
    own.loc[0, "split"] = "training"
    with pytest.raises(StageError, match="split is 'training'"):
        assign(own, {}, PARAMS)


def test_split_reads_its_own_lock_again(small: Project):
    for name in ("gather", "verify", "split"):
        small.stage(name)
    before = table(small, "split").set_index("path")["split"]
    gone = table(small, "images").iloc[0]
    os.unlink(small.path / "data/own" / gone["url"])
    for name in ("gather", "verify", "split"):
        small.stage(name)
    after = table(small, "split").set_index("path")["split"]
    assert gone["path"] not in after
    assert after.to_dict() == before.drop(gone["path"]).to_dict()
    small.edit(**{"split.seed": 7})
    small.stage("split")
    assert table(small, "split").set_index("path")["split"].to_dict() != after.to_dict()


@pytest.mark.parametrize("stage", ["gather", "verify", "split"])
def test_a_stage_without_a_model_imports_no_torch(project: Project, stage):
    done = project.run(
        "python", "-c", f"import sys, stages.{stage}; sys.exit('torch' in sys.modules)"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no real photos beside the project")
def test_real_photos_are_all_kept(project: Project):
    project.edit(**{"gather.source": "folder", "gather.path": str(PHOTOS / "bears")})
    project.edit(
        **{"train.arch": "test_efficientnet", "train.pretrained": False, "train.size": 64}
    )  # for baseline
    for name in ("gather", "verify", "split", "baseline"):
        project.stage(name)
    assert json.loads((project.path / "metrics/verify.json").read_text())["kept"] == 408
