"""Of many pictures labels and odd ones out are judged in less memory, and nearly the same."""

from collections.abc import Iterator

import numpy as np
import pytest

from pawprint.judging import compression, nearest
from pawprint.judging.compression import Blocks, compress_directions, compress_standardised
from pawprint.judging.label_errors import odd_ones_out, out_of_fold, turn
from pawprint.judging.nearest import nearest_distances


def photos(n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Features of six classes, (n, 40), and their targets; a column is constant."""
    random = np.random.default_rng(0)
    target = np.arange(n) % 6
    seen = random.normal(size=(6, 8))[target] + random.normal(0, 0.5, (n, 8))
    seen = seen @ random.normal(size=(8, 40)) + random.normal(0, 0.05, (n, 40)) + 3
    seen[:, 11] = 2
    return seen.astype(np.float32), target


def in_blocks(seen: np.ndarray) -> Blocks:
    """The rows out of order, a hundred at a time."""
    order = np.random.default_rng(1).permutation(len(seen))

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for part in np.split(order, range(100, len(seen), 100)):
            yield part, seen[part]

    return blocks


def test_rows_in_blocks_are_turned_as_all_at_once():
    seen, _ = photos()
    whole, parts = turn(seen), compress_standardised(in_blocks(seen), len(seen))
    assert parts.dtype == np.float32
    assert whole @ whole.T == pytest.approx(parts @ parts.T, abs=1e-3)
    unit = compress_directions(in_blocks(seen), len(seen))
    cosines = seen @ seen.T / np.outer(*2 * [np.linalg.norm(seen, axis=1)])
    assert unit @ unit.T == pytest.approx(cosines, abs=1e-4)


def test_labels_are_judged_alike_from_the_main_directions(monkeypatch: pytest.MonkeyPatch):
    seen, target = photos()
    target[::20] = (target[::20] + 1) % 6
    expected = out_of_fold(seen.astype(np.float64), target, np.arange(600), 5, 42)
    monkeypatch.setattr(compression, "COLUMNS", 12)
    fewer = compress_standardised(in_blocks(seen), 600)
    judged = out_of_fold(fewer, target, np.arange(600), 5, 42, turned=True)
    assert fewer.shape == (600, 12)
    assert (judged.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.98


def test_the_index_finds_the_nearest_and_every_odd_one(monkeypatch: pytest.MonkeyPatch):
    seen, _ = photos(1200)
    seen[7], seen[70] = -3, np.eye(40)[5]
    seen[200:210] = seen[200]  # a group of copies, of which one is compared with
    groups = np.arange(1200)
    groups[200:210] = 200
    expected, odd = odd_ones_out(seen, groups, 5)
    assert odd[[7, 70]].all()
    exact = nearest_distances(seen, seen, 6)
    monkeypatch.setattr(nearest, "INDEXED", 1000)
    monkeypatch.setattr(nearest, "LIST", 40)
    found = nearest_distances(seen, seen, 6)
    assert (np.abs(found - exact) < 1e-5).mean() > 0.95
    assert (found > exact - 1e-5).all(), "none is nearer than the nearest"
    distance, indexed = odd_ones_out(seen, groups, 5)
    assert indexed[odd].all()
    assert (indexed & ~odd).mean() < 0.005
    assert np.median(distance) == pytest.approx(np.median(expected), rel=0.02)
    assert np.array_equal(distance, odd_ones_out(seen, groups, 5)[0])
