"""A label that goes with something other than the subject is found, and chance is not."""

import numpy as np
import pandas as pd
import pytest

from pawprint.judging.correlations import (
    RANGES,
    STRONG,
    Correlation,
    best_range,
    find_correlations,
    host_of,
    strongest,
)

COLUMNS = [column for column, _ in RANGES.values()]


def pictures(counts: dict[str, int], seed: int = 0) -> pd.DataFrame:
    """Pictures whose properties and hosts have nothing to do with their labels."""
    rng = np.random.default_rng(seed)
    labels = [label for label, count in counts.items() for _ in range(count)]
    table = pd.DataFrame(rng.uniform(0.2, 0.9, (len(labels), len(COLUMNS))), columns=COLUMNS)
    hosts = rng.choice(["a.example", "b.example", "c.example"], len(labels))
    return table.assign(
        label=labels,
        size=rng.integers(100, 2000, len(labels)).astype(float),
        grey=(rng.uniform(size=len(labels)) < 0.2).astype(float),
        url=[f"https://{host}/{i}.jpg" for i, host in enumerate(hosts)],
    )


def strong(table: pd.DataFrame) -> list[Correlation]:
    return [each for each in find_correlations(table) if each.strength >= STRONG]


THREE = {"black": 60, "grizzly": 60, "teddy": 60}


@pytest.mark.parametrize(
    ("trait", "column", "value", "what"),
    [
        ("brightness", "brightness", 0.05, "have a brightness of 0.05 to 0.05 (1 is white)"),
        ("sharpness", "sharpness", 0.02, "have a sharpness of 0.02 to 0.02 (0 is blurred)"),
        ("size", "size", 4000, "are 4000 to 4000 pixels a side"),
        ("size", "size", 1000.5, "are 1000 to 1000 pixels a side"),
        (
            "aspect ratio",
            "aspect_ratio",
            1,
            "have sides in a ratio of 1.00 to 1.00 (1 is a square)",
        ),
        ("colour", "grey", 1, "have no colour"),
        ("source", "url", "https://www.zoo.example/1.jpg", "come from zoo.example"),
    ],
)
def test_what_all_pictures_of_one_class_have_in_common_is_found(
    trait: str, column: str, value: object, what: str
):
    table = pictures(THREE)
    table.loc[table["label"] == "black", column] = value
    found = strong(table)
    assert [(each.trait, each.label, each.inside) for each in found] == [(trait, "black", 1)]
    assert found[0].outside < 0.3
    assert found[0].what == what


def test_a_class_that_is_all_night_shots_is_found_among_many_with_its_numbers():
    table = pictures({f"class {i:02}": 25 for i in range(40)})
    night = table.index[table["label"] == "class 07"][:24]
    table.loc[night, "brightness"] = np.linspace(0.02, 0.11, 24)
    (found,) = strong(table)
    assert found.sentence() == (
        "96 % of class 07 have a brightness of 0.02 to 0.11 (1 is white), "
        "and 0 % of the other pictures"
    )
    assert found.word == "strong"


def test_of_two_classes_one_is_named():
    table = pictures({"day": 40, "night": 40})
    table.loc[table["label"] == "night", "brightness"] -= 0.7
    assert [(each.trait, each.label) for each in strong(table)] == [("brightness", "day")]


def test_a_class_from_two_hosts_of_its_own_is_found_and_one_from_hosts_of_all_is_not():
    table = pictures(THREE)
    black = table.index[table["label"] == "black"]
    table.loc[black, "url"] = [f"http://{'xy'[i % 2]}.example/{i}.jpg" for i in range(len(black))]
    (found,) = strong(table)
    assert found.what == "come from x.example, y.example"
    assert strong(pictures(THREE)) == []


@pytest.mark.parametrize("counts", [{"a": 20, "b": 20}, {f"{i:02}": 20 for i in range(30)}])
def test_chance_is_not_taken_for_a_correlation(counts: dict[str, int]):
    for seed in range(20):
        assert strong(pictures(counts, seed)) == []


def test_no_range_is_better_than_the_one_that_is_found():
    rng = np.random.default_rng(0)
    for _ in range(30):
        values, own = rng.integers(0, 9, 40), rng.uniform(size=40) < 0.4
        gains = [
            np.mean((values[own] >= low) & (values[own] <= high))
            - np.mean((values[~own] >= low) & (values[~own] <= high))
            for low in range(9)
            for high in range(low, 9)
        ]
        found = best_range(np.sort(values[own]), np.sort(values), "size", "a", "{} {}")
        assert sum(each.strength for each in found) == pytest.approx(max(0, *gains))


def test_classes_of_a_few_pictures_are_left_out_and_no_data_is_no_error():
    table = pictures({"a": 19, "b": 60})
    table.loc[table["label"] == "a", "brightness"] = 0
    assert find_correlations(table) == []
    assert find_correlations(table.head(0)) == []


def test_what_is_the_same_in_all_pictures_tells_nothing():
    table = pictures(THREE).assign(size=224.0, grey=0.0, url="local/1.jpg")
    assert {each.trait for each in find_correlations(table)}.isdisjoint(
        {"size", "colour", "source"}
    )


def test_a_common_property_of_a_frequent_class_alone_is_not_strong():
    """Datalab 2.9 calls this a spurious correlation: it is right about four pictures in five."""
    assert strong(pictures({"a": 400, "b": 100})) == []


def test_the_strongest_of_each_trait_comes_first():
    table = pictures(THREE)
    table.loc[table["label"] == "teddy", "brightness"] += 0.4
    found = find_correlations(table)
    strengths = [each.strength for each in found]
    assert strengths == sorted(strengths, reverse=True)
    assert strongest(found)[0][:2] == ("brightness", "teddy")
    assert len(strongest(found)) == len({each.trait for each in found})


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://www.zoo.example/a.jpg", "zoo.example"),
        ("HTTP://Zoo.example:80/a.jpg", "zoo.example"),
        ("black/0001.jpg", ""),
        ("C:\\pictures\\a.jpg", ""),
        ("https://[half/a.jpg", ""),
        ("", ""),
    ],
)
def test_a_source_is_the_host_of_a_web_address(url: str, host: str):
    assert host_of(url) == host
