"""Dark, light, blurred, empty, tiny and long pictures are told from sound ones."""

import numpy as np
import pandas as pd
import pytest
from cleanvision.issue_managers.image_property import BrightnessProperty, get_edges
from PIL import Image, ImageFilter, ImageStat

from pawprint.judging.picture_faults import list_faults, read_properties
from pawprint.params import StageError
from pawprint.pictures.properties import (
    COLUMNS,
    brightness_of,
    edges_of,
    find_faults,
    measure,
    spread_of,
)
from pawprint.tables import write_table
from tests.support.pictures import blurred, dark, light, noise, one_colour
from tests.support.project import PHOTOS

USUAL = (400, 300)


def rows(pictures: list[tuple[Image.Image, tuple[int, int]]]) -> pd.DataFrame:
    """What verify measures of pictures, given with the sizes of their files."""
    return pd.DataFrame(
        {"path": f"{i:03}.jpg", "url": "", **measure(image, full)}
        for i, (image, full) in enumerate(pictures)
    )


def faults_among_sound_ones(*planted: tuple[Image.Image, tuple[int, int]]) -> list[str]:
    """The faults of some pictures beside forty sound ones of slightly different sizes."""
    sound = [(noise(i), (400 + i % 7, 300 - i % 5)) for i in range(40)]
    found = find_faults(rows([*sound, *planted]))
    assert set(found["faults"][:40]) == {""}
    assert set(found["severity"][:40]) == {0}
    return found["faults"][40:].tolist()


@pytest.mark.parametrize(("make", "kind"), [(dark, "dark"), (light, "light"), (blurred, "blurry")])
def test_a_fault_of_the_light_or_the_focus_is_found(make, kind: str):
    assert faults_among_sound_ones(*[(make(i), USUAL) for i in range(5)]) == [kind] * 5


@pytest.mark.parametrize("radius", [8, 16, 40])
def test_a_blur_is_found_however_strong_also_in_the_dark(radius: int):
    def blur(image: Image.Image) -> Image.Image:
        return image.resize((400, 300)).filter(ImageFilter.GaussianBlur(radius))

    found = faults_among_sound_ones(*[(each, USUAL) for each in (blur(noise(1)), blur(dark(2)))])
    assert found[0] == "blurry"
    assert found[1] == ("dark blurry" if radius < 40 else "dark"), "of this one nothing is left"


def test_a_picture_of_one_colour_holds_little_and_is_not_called_blurred():
    assert faults_among_sound_ones((one_colour(1), USUAL)) == ["low_information"]


@pytest.mark.parametrize(
    ("full", "kind"),
    [
        ((60, 45), "odd_size"),
        ((4000, 3000), "odd_size"),
        ((1200, 100), "odd_aspect_ratio"),
        ((100, 1200), "odd_aspect_ratio"),
        ((500, 400), ""),
        ((300, 400), ""),
    ],
)
def test_the_size_and_shape_are_those_of_the_gathered_file(full: tuple[int, int], kind: str):
    assert faults_among_sound_ones((noise(99), full)) == [kind]


def test_where_most_pictures_have_one_size_a_few_pixels_more_are_not_odd():
    sizes = [(500, 375)] * 20 + [(500, 333), (501, 375), (480, 360), (100, 80)]
    found = find_faults(rows([(noise(i), size) for i, size in enumerate(sizes)]))
    assert found["faults"].tolist() == [""] * 23 + ["odd_size"]


def test_what_most_pictures_have_is_how_the_data_set_looks():
    night = [(dark(i), USUAL) for i in range(30)]
    found = find_faults(rows([*night, (noise(1), USUAL), (blurred(1), USUAL)]))
    assert found["faults"].tolist() == [""] * 31 + ["blurry"]
    assert (found["dark_score"][:30] < 0.32).all(), "the scores are there all the same"


def test_one_picture_and_none_can_be_judged():
    assert find_faults(rows([(noise(1), USUAL)]))["faults"].tolist() == [""]
    assert find_faults(pd.DataFrame()).empty


def test_a_picture_without_colour_is_known_by_its_pixels():
    grey = noise(1).convert("L").convert("RGB")
    assert [measure(each, USUAL)["grey"] for each in (grey, noise(1), one_colour(1))] == [1, 0, 0]


def test_measuring_does_not_grow_with_the_stored_picture():
    large = noise(1).resize((2000, 1500), Image.Resampling.NEAREST)
    small = measure(large.resize((200, 150), Image.Resampling.BICUBIC), USUAL)
    for name, value in measure(large, USUAL).items():
        # entropy is measured in bits, up to 10 or so
        assert value == pytest.approx(small[name], abs=0.2 if name == "entropy" else 0.1), name


@pytest.mark.parametrize("size", [(100, 75), (37, 61), (7, 3), (1, 1), (2, 1)])
def test_brightness_and_edges_are_those_of_the_libraries_to_the_last_bit(size: tuple[int, int]):
    for make in (noise, dark, light, one_colour):
        image = make(3).resize(size)
        theirs = BrightnessProperty("dark").calculate(image)
        ours = brightness_of([np.asarray(band) for band in image.split()])
        assert ours == {name: theirs[name] for name in ours}
        grey = image.convert("L")
        levels = np.asarray(grey).astype(np.int16)
        assert spread_of(levels) == ImageStat.Stat(grey).stddev[0]
        if min(size) < 3:
            continue
        edges = get_edges(grey).crop((1, 1, size[0] - 1, size[1] - 1))
        assert np.array_equal(edges_of(levels), np.asarray(edges))
        assert spread_of(edges_of(levels)) == ImageStat.Stat(edges).stddev[0]


def test_the_grey_picture_at_hand_is_only_a_shortcut():
    image = noise(1).resize((367, 400))
    assert measure(image, USUAL, image.convert("L")) == measure(image, USUAL)


def test_faults_are_listed_by_kind_and_the_worst_first_in_plain_words():
    planted = [
        (dark(1), USUAL),
        (dark(2).point(lambda value: value // 4), USUAL),
        (noise(3), (60, 45)),
        (noise(4), (1200, 100)),
    ]
    table = find_faults(rows([(noise(i), USUAL) for i in range(20)] + planted)).set_index("path")
    found = [(each.path, each.kind, each.detail) for each in list_faults(table)]
    assert [path for path, _, _ in found] == ["021.jpg", "020.jpg", "022.jpg", "023.jpg"]
    assert found[0][1:] == ("dark picture", "99 % of it is darker than 0.04, where 1 is white")
    assert found[2][1:] == ("odd size", "about 52 pixels a side, where 346 is usual")
    assert found[3][1:] == ("odd aspect ratio", "one side is 12.0 times the other")


def test_every_property_is_read_back_as_a_number(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    table = find_faults(rows([(noise(i), USUAL) for i in range(3)]))
    write_table("data/properties.csv", table)
    read = read_properties(["002.jpg", "000.jpg"])
    assert read.index.tolist() == ["002.jpg", "000.jpg"]
    assert set(read.columns[read.dtypes.eq("float64")]) == set(COLUMNS) - {"path", "url", "faults"}
    write_table("data/properties.csv", table.assign(brightness="bright"))
    with pytest.raises(StageError, match=r"properties\.csv is not the table"):
        read_properties(["002.jpg"])


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no real photos beside the project")
def test_among_real_photos_faults_are_rare_and_planted_ones_are_found(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # opening a picture sets it
    pictures = []
    for path in sorted((PHOTOS / "bears").rglob("*.jp*g"))[::8]:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        full = image.size
        image.thumbnail((400, 400))
        pictures.append((image, full))
    sound = find_faults(rows(pictures))["faults"]
    assert (sound.str.replace("odd_size", "") != "").sum() == 0
    planted = [
        (image.filter(ImageFilter.GaussianBlur(6)) if i % 5 == 0 else image, full)
        for i, (image, full) in enumerate(pictures)
    ]
    found = find_faults(rows(planted))["faults"].str.contains("blurry")
    assert found[::5].mean() > 0.9
    assert found.sum() == found[::5].sum()
