"""The report's grids, its confusion matrix and its size."""

import numpy as np
import pandas as pd
from PIL import Image

from pawprint.judging.figures import confusion_matrix
from pawprint.judging.report import data_address, draw_confusion, galleries


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
    drawn = draw_confusion(confusion)
    assert drawn == draw_confusion(confusion)
    assert drawn != draw_confusion(confusion.T + 1)


def test_four_hundred_thumbnails_stay_under_five_megabytes():
    """The default report holds 48 + 16 + 8 (2 + 2 classes) pictures; 400 noisy ones are worse."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    blotches = Image.fromarray(noise).resize((160, 160))
    assert 400 * len(data_address(blotches)) < 5_000_000
