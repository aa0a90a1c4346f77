"""The drawn sample: the same everywhere, faulty exactly as planned, and silent about it."""

import csv
import hashlib
import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import imagehash
import pytest
from PIL import Image, UnidentifiedImageError

from pawprint.sources.bears import KINDS
from pawprint.sources.sample import FAULTS, SampleOptions, draw, find_pictures, plan, truth
from tests.support.project import ROOT, Project

SIZE = 60


@pytest.fixture(scope="module")
def drawn() -> list:
    return [(planned, draw(planned)) for planned in plan(SIZE, 42)]


def of(drawn: list, fault: str) -> list:
    chosen = [(planned, content) for planned, content in drawn if planned.fault == fault]
    assert chosen, fault
    return chosen


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_the_same_seed_draws_the_same_bytes_and_another_seed_others(drawn):
    again = [draw(planned) for planned in plan(SIZE, 42)]
    assert again == [content for _, content in drawn]
    assert plan(SIZE, 43) != plan(SIZE, 42)
    assert draw(plan(SIZE, 43)[0]) != drawn[0][1]


def test_other_surroundings_draw_the_same_bytes(drawn, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    command = [
        sys.executable,
        "-m",
        "pawprint.sources.sample",
        "--size",
        str(SIZE),
        "--truth",
        str(tmp_path / "truth.csv"),
    ]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    with (tmp_path / "truth.csv").open() as file:
        shas = [row["sha256"] for row in csv.DictReader(file)]
    assert shas == [hashlib.sha256(content).hexdigest() for _, content in drawn]


def test_a_picture_does_not_depend_on_what_was_drawn_before(drawn):
    planned, content = drawn[-1]
    assert draw(planned) == content


def test_faults_are_planted_in_the_numbers_promised():
    faults = Counter(planned.fault for planned in plan(360, 42))
    assert {name: faults[name] for name in FAULTS} == {
        name: round(share) for name, share in FAULTS.items()
    }
    assert faults[""] == 360 - sum(round(share) for share in FAULTS.values())
    assert set(Counter(planned.true_label for planned in plan(360, 42)).values()) == {120}


def test_wrong_labels_are_wrong_and_all_others_right():
    for planned in plan(360, 42):
        assert (planned.label != planned.true_label) == (planned.fault == "wrong_label")
        assert planned.label in KINDS


def test_each_fault_is_what_it_says(drawn):
    for _, content in of(drawn, "truncated"):
        with pytest.raises(OSError, match="truncated"):
            opened(content).load()
    for _, content in of(drawn, "html"):
        with pytest.raises(UnidentifiedImageError):
            opened(content)
    for _, content in of(drawn, "wrong_extension"):
        image = opened(content)
        image.load()
        assert image.format in ("PNG", "WEBP")
    for _, content in of(drawn, "empty"):
        assert content == b""
    for _, content in of(drawn, "tiny"):
        assert max(opened(content).size) < 32


def test_copies_are_copies_of_clean_pictures_of_their_label(drawn):
    by_url = {planned.url: (planned, content) for planned, content in drawn}
    for planned, content in of(drawn, "exact_duplicate") + of(drawn, "near_duplicate"):
        original, bytes_ = by_url[planned.of]
        assert original.fault == ""
        assert original.label == planned.label
        assert (content == bytes_) == (planned.fault == "exact_duplicate")
        assert imagehash.phash(opened(content)) - imagehash.phash(opened(bytes_)) <= 4


def test_different_pictures_are_no_near_duplicates(drawn):
    hashes = [
        (p.key, imagehash.phash(opened(c))) for p, c in drawn if p.fault in ("", "wrong_label")
    ]
    assert (
        min(a - b for i, (key, a) in enumerate(hashes) for other, b in hashes[:i] if key != other)
        > 4
    )


def test_the_name_of_a_file_tells_nothing():
    planned = plan(360, 42)
    assert len({each.url for each in planned}) == 360
    assert {each.url for each in planned} == {
        f"sample/{label}/{n:04}.jpg"
        for label in KINDS
        for n in range(sum(each.label == label for each in planned))
    }
    numbers = [int(each.url[-8:-4]) for each in planned if each.fault == "wrong_label"]
    assert 30 < sum(numbers) / len(numbers) < 90


def test_the_source_yields_the_plan(drawn):
    offered = list(find_pictures(SampleOptions(kind="sample", size=SIZE, seed=42), Path()))
    assert [(item.url, item.label) for item in offered] == [
        (planned.url, planned.label) for planned, _ in drawn
    ]
    assert offered[0].read() == drawn[0][1]


def test_no_stage_can_know_the_truth():
    """Only the generator knows, and gather asks it for pictures alone."""
    for path in (ROOT / "stages").rglob("*.py"):
        if path.name not in ("sample.py", "bears.py"):
            assert "sources.sample" not in path.read_text(), path
            assert "true_label" not in path.read_text(), path


def test_verify_refuses_the_planted_faults_and_nothing_else(project: Project):
    project.edit("data/sources/sample.yaml", size=SIZE)
    project.stage("gather")
    project.stage("verify")
    with (project.path / "data/rejected.csv").open() as file:
        refused = Counter(row["reason"] for row in csv.DictReader(file))
    planted = Counter(row["fault"] for row in truth(SIZE, 42))
    assert refused == {
        "broken": planted["truncated"],
        "not a picture": planted["html"],
        "empty": planted["empty"],
        "too small": planted["tiny"],
        "exact duplicate": planted["exact_duplicate"],
    }
