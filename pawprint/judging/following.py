"""Which sides the pictures near a picture have, and which pictures follow it.

A picture's near ones are its near duplicates and the other pictures of the user's own group. Both
are looked up by hash and by group, not by picture, so that very many equal pictures, or a very
large group, cost no more than as many single ones.
"""

from functools import cached_property

import numpy as np

from pawprint.judging.near_duplicates import Neighbours
from pawprint.tables import SPLITS


class Sides:
    """The sides of pictures, as they are given.

    hashes: one per picture; own: the user's group or ""; splits: their sides so far, "" for none;
    distance: bits in which near duplicates may differ.
    """

    def __init__(self, hashes: list[str], own: list[str], splits: list[str], distance: int) -> None:
        self.hashes, self.own, self.distance = hashes, own, distance
        self.splits = splits

    @cached_property
    def near(self) -> Neighbours:
        """The near duplicates, found once they are asked for: a first split asks for none."""
        return Neighbours(self.hashes, self.distance)

    @cached_property
    def first_by_hash(self) -> np.ndarray:
        """The first picture of each split (row) that has a hash (column), or how many there are."""
        first = np.full((len(SPLITS), len(self.near.begin) - 1), len(self.hashes))
        for i, split in reversed(list(enumerate(self.splits))):
            if split:
                first[SPLITS.index(split), self.near.node[i]] = i
        return first

    @cached_property
    def first_by_group(self) -> dict[tuple[str, str], int]:
        """The first picture of each split and group of the user's own."""
        first: dict[tuple[str, str], int] = {}
        for i, (split, name) in enumerate(zip(self.splits, self.own, strict=True)):
            if split and name:
                first.setdefault((split, name), i)
        return first

    @cached_property
    def waiting(self) -> tuple[list[list[int]], dict[str, list[int]]]:
        """The pictures without a side, by hash and by group, until they are followed."""
        by_hash: list[list[int]] = [[] for _ in self.near.begin[1:]]
        by_group: dict[str, list[int]] = {"": []}
        for i, split in enumerate(self.splits):
            name = self.own[i]
            if name:
                by_group.setdefault(name, [])
            if not split:
                by_hash[self.near.node[i]].append(i)
                if name:
                    by_group[name].append(i)
        return by_hash, by_group

    def note(self, i: int, split: str) -> None:
        """Note the side that picture i got."""
        row, node = SPLITS.index(split), self.near.node[i]
        self.first_by_hash[row, node] = min(self.first_by_hash[row, node], i)
        if self.own[i]:
            key = split, self.own[i]
            self.first_by_group[key] = min(self.first_by_group.get(key, i), i)

    def first_of_each(self, i: int, most: int) -> dict[str, int]:
        """Return the first picture of each split near picture i, which has no side itself.

        Splits without such a picture below index `most` are left out.
        """
        node = int(self.near.node[i])
        nodes = [node, *self.near.of(node)]
        first = self.first_by_hash[:, nodes].min(axis=1).tolist()
        found = {}
        for split, by_hash in zip(SPLITS, first, strict=True):
            by_group = self.first_by_group.get((split, self.own[i]), most)
            if min(by_hash, by_group) < most:
                found[split] = min(by_hash, by_group)
        return found

    def follow(self, i: int) -> list[int]:
        """Return the pictures near picture i that were without a side before any side was followed.

        Each comes once by its hash and once by its group, because whoever asks gives it its side.
        """
        by_hash, by_group = self.waiting
        node = int(self.near.node[i])
        found = set(by_group[self.own[i]])
        for each in (node, *self.near.of(node).tolist()):
            found.update(by_hash[each])
            by_hash[each] = []
        by_group[self.own[i]] = []
        return sorted(found)
