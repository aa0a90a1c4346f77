"""The report's grids, its confusion matrix and its size."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pawprint.judging.correlations import Correlation
from pawprint.judging.errors import BASELINES
from pawprint.judging.figures import confusion_matrix, most_confused, summarise
from pawprint.judging.licences import LicenceCount
from pawprint.judging.picture_faults import Fault
from pawprint.judging.report import (
    data_address,
    draw_confusion,
    galleries,
    render,
    shown_classes,
)


def test_galleries_hold_what_they_say():
    valid = pd.DataFrame(
        {
            "path": [f"{i}.jpg" for i in range(6)],
            "label": list("aaabbb"),
            "prediction": list("aabbba"),
            "probability": [0.9, 0.6, 0.8, 0.95, 0.7, 0.99],
            "loss": [0.1, 0.5, 1.6, 0.05, 0.36, 4.6],
        }
    )
    shown = {title: rows["path"].tolist() for title, _, rows in galleries(valid, ["a", "b"])}
    assert shown["Least sure"][0] == "1.jpg"
    assert set(shown["Right, at random"]) == {"0.jpg", "1.jpg", "3.jpg", "4.jpg"}
    assert shown["a: most correct"] == ["0.jpg", "1.jpg"]
    assert shown["b: most incorrect"] == ["5.jpg"]


def test_the_confusion_matrix_is_drawn_the_same_each_time_and_not_without_a_class():
    valid = pd.DataFrame({"label": list("aab"), "prediction": list("aba")})
    confusion = confusion_matrix(valid, ["a", "b", "c"])
    assert confusion.to_numpy().tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0]]
    drawn = draw_confusion(valid, ["a", "b", "c"])
    assert drawn == draw_confusion(valid, ["a", "b", "c"])
    assert drawn != draw_confusion(valid.iloc[::2], ["a", "b", "c"])


def many(classes: int) -> tuple[pd.DataFrame, list[str]]:
    """Two pictures per class, one of which is taken for the next class."""
    names = [f"class {i:04}" for i in range(classes)]
    label = [name for name in names for _ in range(2)]
    prediction = [names[(i // 2 + i % 2) % classes] for i in range(2 * classes)]
    share = {"probability": 0.5, "loss": 0.7, "path": "x.jpg"}
    return pd.DataFrame({"label": label, "prediction": prediction, **share}), names


def test_a_thousand_classes_are_drawn_as_their_most_confused_pairs():
    valid, names = many(1000)
    with Image.open(io.BytesIO(draw_confusion(valid, names))) as image:
        assert image.height < 1200
    figures = summarise(valid, names)
    assert len(shown_classes(figures, names)) == 20
    assert most_confused(valid)[0] == ("class 0000", "class 0001", 1)
    few, few_names = many(30)
    assert shown_classes(summarise(few, few_names), few_names) == few_names


def test_the_report_of_many_classes_has_no_matrix_and_does_not_grow_with_their_square(
    tmp_path: Path,
):
    sizes = {}
    for classes in (30, 31, 300):
        valid, names = many(classes)
        Image.new("RGB", (20, 20)).save(tmp_path / "x.jpg")
        valid["path"] = str(tmp_path / "x.jpg")
        baselines = {name: {"error_rate": 0.5} for name in BASELINES}
        figures = summarise(valid, names)
        page = render(figures, valid, valid.head(0), [], [], baselines, names, [], [])
        assert ('class="matrix"' in page) == (classes <= 30)
        assert "class 0000" in page
        sizes[classes] = len(page)
    assert sizes[300] < 1.2 * sizes[31]


def shown_page(
    tmp_path: Path,
    faults: list[Fault],
    correlations: list[Correlation],
    licences: Sequence[LicenceCount] = (),
) -> str:
    valid, names = many(3)
    figures = summarise(valid, names)
    baselines = {name: {"error_rate": 0.5} for name in BASELINES}
    valid["path"] = str(tmp_path / "x.jpg")
    Image.new("RGB", (20, 20)).save(tmp_path / "x.jpg")
    return render(
        figures, valid, valid.head(0), [], [], baselines, names, faults, correlations, licences
    )


def test_the_report_counts_licences(tmp_path: Path):
    counted = [LicenceCount("cc-by-4.0", 7, 2), LicenceCount("a<b", 2, 0)]
    page = shown_page(tmp_path, [], [], counted)
    assert '<th scope="row">cc-by-4.0</th><td>7</td><td>2</td>' in page
    assert "a&lt;b" in page
    page = shown_page(tmp_path, [], [], [LicenceCount("none stated", 9, 0)])
    assert "states no licence for any of the 9 pictures" in page


def test_the_report_shows_the_worst_of_each_fault_and_says_how_many_there_are(tmp_path: Path):
    (tmp_path / "a<b").mkdir()
    path = str(tmp_path / "a<b/0123456789abcdef.jpg")
    Image.new("RGB", (20, 20)).save(path)
    faults = [Fault(path, "dark picture", f"darker than 0.{i:02}", i / 100) for i in range(11)]
    page = shown_page(tmp_path, [*faults, Fault(path, "odd size", "48 pixels a side", 0.1)], [])
    assert "dark picture: 11 pictures" in page
    assert "odd size: 1 picture<" in page
    assert "darker than 0.07" in page
    assert "darker than 0.08" not in page, "eight are shown"
    assert "a&lt;b" in page
    assert "No class has enough pictures" in page
    assert "None of them is dark" in shown_page(tmp_path, [], [])


def test_the_report_says_in_words_what_goes_with_a_label_and_how_strongly(tmp_path: Path):
    found = [
        Correlation("brightness", "a", 0.96, 0.03, "have a brightness of 0.02 to 0.11"),
        Correlation("brightness", "b", 0.8, 0.05, "have a brightness of 0.50 to 0.70"),
        Correlation("size", "b", 0.6, 0.15, "are 100 to 200 pixels a side"),
        Correlation("size", "c", 0.3, 0.1, "are 300 to 400 pixels a side"),
        Correlation("source", "c", 0.3, 0.2, "come from c.example"),
    ]
    page = shown_page(tmp_path, [], found)
    assert "96 % of a have a brightness of 0.02 to 0.11, and 3 % of the other pictures" in page
    order = ["strong, 93 of 100", "strong, 75 of 100", "clear, 45 of 100", "weak, 10 of 100"]
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert "300 to 400" not in page, "of each trait the strongest, and every strong one"


@pytest.mark.parametrize("classes", [4, 40])
def test_classes_without_a_valid_picture_are_said_to_be_not_measured(classes: int, tmp_path: Path):
    valid, names = many(classes)
    Image.new("RGB", (20, 20)).save(tmp_path / "x.jpg")
    valid["path"] = str(tmp_path / "x.jpg")
    names = [*names, "shy one", "shy two"]
    figures = summarise(valid, names)
    baselines = {name: {"error_rate": 0.5} for name in BASELINES}
    page = render(figures, valid, valid.head(0), [], [], baselines, names, [], [])
    assert f"2 of {classes + 2} classes have no valid picture" in page
    assert "<p>shy one, shy two</p>" in page
    assert page.count("<td>not measured</td>") == (4 if classes <= 30 else 0)
    assert "shy one: most correct" not in page


def test_labels_in_any_script_and_with_a_dollar_are_drawn():
    names = ["$5", "$x_1$", "été", "медведь", "دب", "猫"]
    valid = pd.DataFrame({"label": names, "prediction": names[::-1]})
    assert draw_confusion(valid, names) != draw_confusion(valid, [*names[:5], "b"])


def test_four_hundred_thumbnails_stay_under_five_megabytes():
    """The default report holds 48 + 16 + 8 (2 + 2 classes) pictures; 400 noisy ones are worse."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    blotches = Image.fromarray(noise).resize((160, 160))
    assert 400 * len(data_address(blotches)) < 5_000_000
