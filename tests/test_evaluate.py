"""Two models are compared on the same pictures, in words that claim no more than the numbers do."""

import pandas as pd

from stages.evaluate import compare, pictures_needed


def answers(n: int, first: int, retrained: int) -> pd.DataFrame:
    """`n` test pictures, the first `first` and `retrained` of which the models get wrong."""
    table = pd.DataFrame({"label": ["a"] * n})
    for name, wrong in (("first", first), ("retrained", retrained)):
        table[name] = ["b"] * wrong + ["a"] * (n - wrong)
    return table


def test_a_small_difference_is_no_evidence_and_says_what_would_be():
    found = compare(answers(61, 2, 1))
    assert found["mcnemar_p"] == 1
    assert found["summary"] == (
        "2 of 61 wrong before cleaning, 1 of 61 after: no evidence of a difference at this size (p = 1.00); "
        "about 480 test pictures would be needed to see it"
    )


def test_a_large_difference_is_named_better_or_worse():
    assert "the better result is unlikely to be chance" in compare(answers(100, 30, 5))["summary"]
    assert "the worse result is unlikely to be chance" in compare(answers(100, 5, 30))["summary"]


def test_no_difference_needs_no_pictures():
    assert pictures_needed(3, 3, 100) == 0
    assert "needed" not in compare(answers(50, 3, 3))["summary"]


def test_fewer_pictures_are_needed_for_a_larger_difference():
    assert pictures_needed(20, 2, 200) < pictures_needed(5, 2, 200)
