"""Near duplicates form groups: those of all pairs, without comparing all pairs."""

import numpy as np
import pytest

from pawprint.judging import near_duplicates
from pawprint.judging.following import Sides
from pawprint.judging.near_duplicates import find_groups, find_originals, near_pairs, to_bits
from pawprint.tables import SPLITS

ONE = np.uint64(1)


def test_near_duplicates_share_a_group_and_unrelated_pictures_do_not():
    hashes = ["0000000000000000", "00000000000000ff", "000000000000000f", "ffffffffffffffff"]
    assert find_groups(hashes, [""] * 4, 4) == [0, 0, 0, 3]
    assert find_groups(hashes, [""] * 4, 3) == [0, 1, 2, 3]
    assert find_groups(hashes, ["", "day", "", "day"], 3) == [0, 1, 2, 1]
    assert find_groups([], [], 4) == []


def spread(n: int, random: np.random.Generator) -> np.ndarray:
    return random.integers(0, 2**64, n, dtype=np.uint64)


def flipped(bits: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Flip up to `most` bits of every hash."""
    for _ in range(most):
        bits = bits ^ (ONE << random.integers(0, 64, len(bits), dtype=np.uint64))
    return bits


SETS = {
    "unrelated": spread,
    "copies": lambda n, random: flipped(np.repeat(spread(n // 8, random), 8), 3, random),
    "a scene": lambda n, random: flipped(np.repeat(spread(1, random), n), 6, random),
    "few bits": lambda n, random: random.integers(0, 2**14, n, dtype=np.uint64) << np.uint64(9),
    "far ends": lambda n, random: np.where(spread(n, random) % 2, ~np.uint64(0), np.uint64(0)),
    "equal": lambda n, random: np.zeros(n, dtype=np.uint64),
}


def hexed(bits: np.ndarray) -> list[str]:
    return [f"{value:016x}" for value in bits.tolist()]


def groups_of_all_pairs(bits: np.ndarray, own: list[str], distance: int) -> list[int]:
    """The same groups by comparing all with all."""
    named = np.array(own)
    linked = np.bitwise_count(bits[:, None] ^ bits) <= distance
    linked |= (named[:, None] == named) & (named != "")
    first = np.arange(len(bits))
    while True:
        least = np.where(linked, first, len(bits)).min(axis=1)
        if (least == first).all():
            return first.tolist()
        first = least


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("distance", [0, 1, 3, 4, 5, 8, 16])
def test_the_groups_are_those_of_all_pairs(kind, distance, monkeypatch):
    random = np.random.default_rng(distance)
    for n, few in ((1, 1024), (300, 16), (600, 1024), (600, 40)):  # an index of more than `few`
        monkeypatch.setattr(near_duplicates, "FEW", few)
        monkeypatch.setattr(near_duplicates, "SMALL", few // 4)
        bits = SETS[kind](max(n, 8), random)[:n]
        own = [f"g{random.integers(n)}" if random.random() < 0.1 else "" for _ in bits]
        expected = groups_of_all_pairs(bits, own, distance)
        assert find_groups(hexed(bits), own, distance) == expected
        # and each pair comes once
        bits = np.unique(bits)
        pairs = [
            tuple(sorted(pair))
            for i, j in near_pairs(bits, distance)
            for pair in zip(i, j, strict=True)
        ]
        near = np.bitwise_count(bits[:, None] ^ bits) <= distance
        assert sorted(pairs) == list(zip(*np.nonzero(np.triu(near, 1)), strict=True))


@pytest.mark.parametrize("kind", SETS)
def test_a_hash_is_compared_with_few_others(kind, monkeypatch):
    compared = [0]
    count = np.bitwise_count

    def counted(values):
        compared[0] += values.size
        return count(values)

    monkeypatch.setattr(np, "bitwise_count", counted)
    n = 20_000
    find_groups(hexed(SETS[kind](n, np.random.default_rng(0))), [""] * n, 4)
    dense = kind in ("a scene", "few bits")  # in which each is near hundreds
    assert compared[0] < n * (2000 if dense else 20)


def test_a_copy_belongs_to_the_first_original_it_is_near():
    random = np.random.default_rng(0)
    bits = flipped(np.repeat(spread(40, random), 10), 3, random)
    bits = random.permutation(np.concatenate([bits, bits[:50]]))
    sets = [f"set {random.integers(3)}" for _ in bits]
    originals: list[int] = []
    expected = []
    for i, value in enumerate(bits):
        before = [each for each in originals if sets[each] == sets[i]]
        near = [each for each in before if np.bitwise_count(bits[each] ^ value) <= 4]
        expected.append(near[0] if near else i)
        originals += [] if near else [i]
    assert find_originals(hexed(bits), sets, 4) == expected
    assert len(set(expected)) < len(bits) - 50


def test_sides_are_looked_up_by_hash_and_by_group_as_if_by_picture():
    random = np.random.default_rng(0)
    n = 200
    hashes = hexed(flipped(np.repeat(spread(20, random), 10), 2, random))
    own = [f"g{random.integers(20)}" if random.random() < 0.3 else "" for _ in range(n)]
    splits = [str(random.choice(["", "", *SPLITS])) for _ in range(n)]
    bits = to_bits(hashes)
    sides = Sides(hashes, own, splits, 4)
    for i in [i for i in range(n) if not splits[i]]:
        near = [
            j
            for j in range(n)
            if j != i
            and ((own[i] and own[j] == own[i]) or np.bitwise_count(bits[i] ^ bits[j]) <= 4)
        ]
        for most in (n, n // 2):
            first = {splits[j]: j for j in reversed(near) if splits[j] and j < most}
            assert sides.first_of_each(i, most) == first
        if i % 3:
            splits[i] = SPLITS[i % 3]
            sides.note(i, splits[i])
    free = [j for j in range(n) if not splits[j]]
    followed = {j for i in range(n) for j in sides.follow(i)}
    assert followed == set(free)


def test_a_hash_is_read_as_the_number_it_writes():
    assert to_bits(["00000000000000ff", "8000000000000000"]).tolist() == [255, 2**63]
