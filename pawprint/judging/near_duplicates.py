"""Near duplicates: pictures whose perceptual hashes differ in few bits.

Hashes are 16 hex digits, as pawprint.pictures.hashing gives them. The distance between two is
Hamming's: the number of bits in which they differ.
"""

from collections.abc import Callable

import numpy as np

ONES = np.array([bin(value).count("1") for value in range(1 << 16)], dtype=np.uint8)


def to_bits(hashes: list[str]) -> np.ndarray:
    """Return hashes of 16 hex digits as uint64, (N,)."""
    return np.array([int(text, 16) for text in hashes], dtype=np.uint64)


def hamming(bits: np.ndarray, other: np.uint64) -> np.ndarray:
    """Return in how many bits each of `bits`, uint64 (N,), differs from `other`: (N,)."""
    words = (bits ^ other).view(np.uint16).reshape(-1, 4)
    return ONES[words].sum(axis=1)


def near_function(hashes: list[str], own: list[str], distance: int) -> Callable[[int], list[int]]:
    """Return a function from a picture's index to the indexes of the pictures that belong with it.

    These are its near duplicates and the other pictures of the user's own group.
    hashes, own, distance: as in find_groups.
    """
    bits = to_bits(hashes)
    named = np.array(own, dtype=object)

    def near(i: int) -> list[int]:
        found = hamming(bits, bits[i]) <= distance
        if own[i]:
            found |= named == own[i]
        found[i] = False
        return np.flatnonzero(found).tolist()

    return near


def find_groups(hashes: list[str], own: list[str], distance: int) -> list[int]:
    """Return for every picture the index of the first picture of its group.

    hashes: one per picture; own: the user's group or ""; distance: bits in which near duplicates
    may differ. Chains are followed: if a is near b, and b near c, all three are one group. Memory
    is linear in the pictures.
    """
    leader = list(range(len(hashes)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    def union(i: int, j: int) -> None:
        low, high = sorted((find(i), find(j)))
        leader[high] = low

    bits = to_bits(hashes)
    for i in range(len(bits) - 1):
        for j in np.flatnonzero(hamming(bits[i + 1 :], bits[i]) <= distance):
            union(i, i + 1 + int(j))
    first: dict[str, int] = {}
    for i, name in enumerate(own):
        if name:
            union(first.setdefault(name, i), i)
    return [find(i) for i in range(len(hashes))]
