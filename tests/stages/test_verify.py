"""verify on small input: what it keeps, what it refuses and why."""

import json

import pytest
from PIL import Image

from tests.support.project import PHOTOS, Project, table


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


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no real photos beside the project")
def test_real_photos_are_all_kept(project: Project):
    project.edit(**{"gather.source": "folder", "gather.path": str(PHOTOS / "bears")})
    project.edit(
        **{"train.arch": "test_efficientnet", "train.pretrained": False, "train.size": 64}
    )  # for baseline
    for name in ("gather", "verify", "split", "features", "baseline"):
        project.stage(name)
    assert json.loads((project.path / "metrics/verify.json").read_text())["kept"] == 408


def test_a_class_without_a_usable_picture_stops_with_its_reason_and_a_report(small: Project):
    own = small.path / "data/own"
    (own / "blue").mkdir()
    for i in range(3):
        (own / f"blue/{i}.jpg").write_text(f"<html>{i}</html>")
    (own / "blue/empty.jpg").write_bytes(b"")
    small.stage("gather")
    line = small.failing_stage("verify")
    assert "class 'blue': none of its 4 files can be used" in line
    assert "'not a picture' (3); see data/rejected.csv" in line
    assert set(table(small, "rejected")["reason"]) == {"empty", "not a picture"}
    assert json.loads((small.path / "metrics/verify.json").read_text())["rejected"] == 4


def test_a_class_called_pictures_overwrites_no_total(small: Project):
    own = small.path / "data/own"
    (own / "green").rename(own / "pictures")
    for name in ("gather", "verify", "split"):
        small.stage(name)
    counted = json.loads((small.path / "metrics/split.json").read_text())["train"]
    assert counted["pictures"] == sum(counted["labels"].values())
    assert set(counted["labels"]) == {"red", "pictures"}
