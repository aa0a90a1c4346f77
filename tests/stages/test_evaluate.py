"""Models and baselines are judged on the same pictures, in words that the numbers allow."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binom

from pawprint.commands.summary import summary as printed
from pawprint.judging.comparison import compare_pair, pictures_needed
from pawprint.judging.errors import BASELINES, error_of
from pawprint.tables import read_json, write_bytes, write_json, write_table
from stages import evaluate
from stages.evaluate import judge
from tests.support.project import ROOT


def answers(n: int, first: int, retrained: int, linear: int = 0) -> pd.DataFrame:
    """`n` test pictures, the first so many of which each of the three gets wrong."""
    table = pd.DataFrame({"label": ["a"] * n, **dict.fromkeys(BASELINES, "a")})
    for name, wrong in (("first", first), ("retrained", retrained), ("linear", linear)):
        table[name] = ["b"] * wrong + ["a"] * (n - wrong)
    return table


def test_a_small_difference_is_no_evidence_and_says_what_would_be():
    found = judge(answers(61, 2, 1))
    assert found["mcnemar_p"] == 1
    assert found["summary"] == (
        "2 of 61 wrong before cleaning, 1 of 61 after: "
        "no evidence of a difference at this size (p = 1.00); "
        "about 480 test pictures would be needed to see it"
    )


def test_a_large_difference_is_named_better_or_worse():
    assert (
        "the better result is unlikely to be chance (p < 0.001)"
        in judge(answers(100, 30, 5))["summary"]
    )
    assert "the worse result is unlikely to be chance" in judge(answers(100, 5, 30))["summary"]
    assert judge(answers(100, 30, 5, linear=25))["beyond_linear"] == (
        "25 of 100 wrong by a linear head, 5 of 100 by the retrained model: "
        "the better result is unlikely to be chance (p < 0.001)"
    )


def test_no_difference_needs_no_pictures():
    assert pictures_needed(3, 3, 100) == 0
    assert "needed" not in judge(answers(50, 3, 3))["summary"]


@pytest.mark.parametrize(("wrong", "n"), [(0, 40), (2, 61), (13, 50), (61, 61)])
def test_the_interval_is_wilsons(wrong: int, n: int):
    p, z = wrong / n, 1.959964
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = error_of(np.arange(n) < wrong)
    assert [found["low"], found["high"]] == pytest.approx(
        [(centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)], abs=1e-6
    )


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (5, 1), (8, 2), (3, 3), (2, 14)])
def test_p_is_mcnemars_exact_one(won: int, lost: int):
    both, n = 4, 100  # pictures that both get wrong say nothing
    one = np.arange(n) < both + won
    other = (np.arange(n) < both) | (np.arange(n) >= n - lost)
    p, _, _ = compare_pair(one, other, ("before", "after"))
    assert p == pytest.approx(
        min(1, 2 * binom.cdf(min(won, lost), won + lost, 0.5)) if won + lost else 1
    )


@pytest.mark.parametrize(("won", "lost", "n"), [(10, 3, 120), (12, 4, 100), (20, 14, 300)])
def test_with_so_many_pictures_the_difference_is_seen_four_times_of_five(
    won: int, lost: int, n: int
):
    needed = pictures_needed(won, lost, n)
    draws = np.random.default_rng(0).multinomial(
        needed, [won / n, lost / n, 1 - (won + lost) / n], 20000
    )
    b, c = draws[:, 0], draws[:, 1]
    seen = (b - c) ** 2 > 1.959964**2 * np.maximum(b + c, 1)
    assert 0.77 < seen.mean() < 0.86


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project after retrain: 10 test pictures, dark ones a and light ones b; fixed answers."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for i in range(40):
        split = "test" if i < 10 else "valid" if i < 16 else "train"
        rows.append((f"data/images/{i:016x}.png", "ab"[i % 2], f"g{i}", split))
        Path("data/images").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (200 * (i % 2) + i,) * 3).save(rows[-1][0])
    table = pd.DataFrame(rows, columns=["path", "label", "group", "split"])
    write_table("data/split.csv", table)
    table.loc[0, "label"] = "b"  # a person's word: picture 0 is a b
    write_table("data/cleaned.csv", table.drop(index=[2, 17]))  # and picture 2 is nothing
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    for name in ("linear", "first", "retrained"):
        write_bytes(f"models/{name}.safetensors", name.encode())
    wrong = {"linear": {0, 1, 2, 3}, "first": {0, 2}, "retrained": {0, 1}}

    def ask(name: str, paths: list[str]) -> list[str]:
        numbers = [int(Path(path).stem, 16) for path in paths]
        return ["ab"[(n % 2) ^ (n in wrong[name])] for n in numbers]

    def ask_models(paths: list[str], *_: object) -> dict[str, list[str]]:
        return {name: ask(name, paths) for name in ("first", "retrained")}

    monkeypatch.setattr(evaluate, "ask_linear", lambda paths: ask("linear", paths))
    monkeypatch.setattr(evaluate, "ask_models", ask_models)
    evaluate.main()
    return tmp_path


def test_baselines_and_models_stand_in_one_table_with_both_versions_of_the_labels(judged: Path):
    report = read_json("metrics/evaluate.json")
    names = [*BASELINES, "first", "retrained"]
    gathered = {name: report["as_gathered"][name] for name in names}
    assert {name: of["wrong"] for name, of in gathered.items()} == {
        "majority": 5, "pixel_l1": 0, "pixel_l2": 0, "linear": 4, "first": 2, "retrained": 2,
    }  # fmt: skip
    assert {of["pictures"] for of in gathered.values()} == {10}
    cleaned = {name: report["as_cleaned"][name] for name in names}
    assert {name: of["wrong"] for name, of in cleaned.items()} == {
        "majority": 6, "pixel_l1": 1, "pixel_l2": 1, "linear": 2, "first": 0, "retrained": 1,
    }  # fmt: skip
    assert {of["pictures"] for of in cleaned.values()} == {9}
    assert list(pd.read_csv("data/test_predictions.csv").columns) == ["path", "label", *names]


def test_the_summary_shows_what_the_deep_model_buys(judged: Path):
    write_json("metrics/export.json", {"model": "first"})
    write_json("metrics/split.json", {"rare": {"not_tested": []}})
    text = printed(judged)
    lines = text.splitlines()
    table = [line for line in lines if " of 10 " in line and "%" in line]
    assert [line.split("  ")[0] for line in table] == [
        "most frequent class",
        "nearest mean picture, L1",
        "nearest mean picture, L2",
        "linear head on frozen features",
        "first model",
        "retrained model",
    ]
    assert "4 of 10" in table[3]
    assert "4 of 10 wrong by a linear head, 2 of 10 by the retrained model" in text
    assert "with the labels as cleaned: 0 of 9 wrong before cleaning, 1 of 9 after" in text


def test_the_comparison_of_models_is_paired():
    labels = ["a"] * 100
    baselines = dict.fromkeys(BASELINES, "a")
    answers = pd.DataFrame(
        {"label": labels, "first": ["b"] * 12 + ["a"] * 88, "retrained": labels, **baselines}
    )
    judged = judge(answers)
    assert judged["mcnemar_p"] == pytest.approx(2 * 0.5**12)
    assert "unlikely to be chance" in judged["summary"]
    even = judge(answers.assign(retrained=["a"] * 88 + ["b"] * 12))
    assert even["mcnemar_p"] == 1
    assert "no evidence of a difference" in even["summary"]


def test_wilsons_interval():
    of = error_of(np.arange(100) < 10)
    assert (of["low"], of["high"]) == pytest.approx((0.0552, 0.1744), abs=1e-4)


@pytest.mark.parametrize(
    ("wrong", "better"),
    [
        ((0, 0, 0), "retrained"),  # it wins a tie
        ((1, 1, 2), "first"),  # which wins a tie against the linear head
        ((0, 1, 1), "linear"),
        ((2, 1, 0), "retrained"),
    ],
)
def test_the_better_model_is_the_one_that_valid_prefers_and_a_copy_of_it_is_kept(
    judged: Path, monkeypatch: pytest.MonkeyPatch, wrong: tuple[int, int, int], better: str
):
    def ask(paths: list[str], errors: int) -> list[str]:
        given = ["ab"[int(Path(path).stem, 16) % 2] for path in paths]
        first = len(paths) - 6  # valid comes last
        return ["ba"[given[i] == "b"] if first <= i < first + errors else given[i]
                for i in range(len(given))]  # fmt: skip

    monkeypatch.setattr(evaluate, "ask_linear", lambda paths: ask(paths, wrong[0]))
    monkeypatch.setattr(
        evaluate,
        "ask_models",
        lambda paths, *_: {"first": ask(paths, wrong[1]), "retrained": ask(paths, wrong[2])},
    )
    evaluate.main()
    report = read_json("metrics/evaluate.json")
    names = ("linear", "first", "retrained")
    assert tuple(report["valid"][name]["wrong"] for name in names) == wrong
    assert report["better"] == better
    assert Path("models/better.safetensors").read_bytes() == better.encode()
