"""A project of coloured pictures for the tests of the review page, with tables and features."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from pawprint.training.features import hash_rows, lay_out
from tests.support.commands import picture_id as name


def make_project(root: Path, pictures: int) -> Path:
    """A project after interpret and clean; every path leads to one of 12 pictures on disk."""
    splits = ("train", "valid", "test")
    split, said, errors = (
        ["path,label,group,split"],
        ["path,prediction,probability,loss"],
        ["path,suggestion,score"],
    )
    for i in range(pictures):
        path = f"data/images/{'ab'[i % 2]}/{name(i)}.jpg"
        split.append(f"{path},{'ab'[i % 2]},{name(i - i % 10 % 2)},{splits[i % 3]}")
        said.append(f"{path},a,{0.5 + i % 50 / 100},{i % 97 / 10}")
        errors.append(f"{path},b,{i % 89 / 89}")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if i < 12:
            Image.new("RGB", (90, 60), (i * 20, 120, 200 - i * 10)).save(root / path)
        else:
            os.link(root / f"data/images/{'ab'[i % 2]}/{name(i % 2)}.jpg", root / path)
    for file, lines in (("split", split), ("predictions", said), ("label_errors", errors)):
        (root / f"data/{file}.csv").write_text("\n".join(lines) + "\n")
    return root


def add_features(root: Path, pictures: int) -> None:
    """Features of the pictures of `make_project`, and of one more that data/split.csv lacks.

    Those of class a lie around a corner, those of b around another, in the order of their numbers.
    """
    paths = ["data/images/a/left_out.jpg"]
    paths += [f"data/images/{'ab'[i % 2]}/{name(i)}.jpg" for i in range(pictures)]
    place = np.arange(-1, pictures)
    rows = np.stack([np.ones(len(place)), place % 2 * 40.0, place / 10, place * 0.0], axis=1)
    batch = dict.fromkeys(("features", "mirrored", "maps"), rows.astype("<f4"))
    head, _ = lay_out(len(rows), batch, {"rows": hash_rows(paths)})
    content = head + b"".join(each.tobytes() for each in batch.values())
    (root / "data/features.safetensors").write_bytes(content)
    (root / "data/images.csv").write_text("\n".join(["path", *paths, ""]))
