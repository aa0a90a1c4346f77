"""Near duplicates: pictures whose perceptual hashes differ in few bits.

Hashes are 16 hex digits, as pawprint.pictures.hashing gives them. The distance between two is
Hamming's: the number of bits in which they differ.

Pairs are found without comparing all with all. The bits are dealt into pieces. Two hashes that
differ in at most d bits agree in all pieces but d, so they share a bucket of one of the indexes
whose keys are those pieces (the pigeonhole principle; Manku, Jain and Das Sarma, "Detecting
near-duplicates for web crawling", WWW 2007). The result is that of all pairs, exactly. Equal hashes
count once. A bucket that is large, because many pictures look alike, gets indexes of its own from
the bits that still differ in it.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations
from math import comb

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SMALL = 64  # hashes of a bucket that are compared all with all, with those of other buckets
FEW = 1024  # hashes that get no index
BLOCK = 1 << 21  # pairs compared at a time
SORT = 25  # what sorting a hash into an index costs, in comparisons of a pair
LARGE = 1e5  # what an index of a bucket's own costs, likewise
SAMPLE = 4096  # hashes of which the bits are counted

Pairs = tuple[np.ndarray, np.ndarray]  # indexes i and j, one of each per pair


def to_bits(hashes: Iterable[str]) -> np.ndarray:
    """Return hashes of 16 hex digits as uint64, (N,)."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=">u8").astype(np.uint64)


def find_groups(hashes: list[str], own: list[str], distance: int) -> list[int]:
    """Return for every picture the index of the first picture of its group.

    hashes: one per picture; own: the user's group or ""; distance: bits in which near duplicates
    may differ. Chains are followed: if a is near b, and b near c, all three are one group. Memory
    is linear in the pictures.
    """
    if not hashes:
        return []
    bits, node = np.unique(to_bits(hashes), return_inverse=True)
    groups = Groups(len(bits))
    first: dict[str, int] = {}
    named = [(first.setdefault(name, i), i) for i, name in enumerate(own) if name]
    if named:
        before, after = np.array(named).T
        groups.join(node[before], node[after])
    for i, j in near_pairs(bits, distance, groups):
        groups.join(i, j)
    _, firsts, inverse = np.unique(groups.label[node], return_index=True, return_inverse=True)
    return firsts[inverse].tolist()


def find_originals(hashes: list[str], sets: list[str], distance: int) -> list[int]:
    """Return for every picture the index of the original that it is a copy of, or its own.

    hashes: one per picture; sets: only pictures of one set are compared. The first picture of a set
    is an original, and so is every later one that is near none of the originals before it. A copy
    belongs to the first original that it is near.
    """
    near = Neighbours(hashes, distance)
    known: dict[tuple[str, int], int] = {}  # the original of each hash, by set
    originals: dict[tuple[str, int], int] = {}
    found = []
    for i, name in enumerate(sets):
        own = int(near.node[i])
        if (name, own) not in known:
            before = [originals.get((name, each), i) for each in near.of(own).tolist()]
            known[name, own] = min(before, default=i)
            if known[name, own] == i:
                originals[name, own] = i
        found.append(known[name, own])
    return found


class Groups:
    """Which hashes belong together. label: (N,), equal for those of one group."""

    def __init__(self, count: int) -> None:
        self.label = np.arange(count)

    def join(self, i: np.ndarray, j: np.ndarray) -> None:
        """Make one group of the groups of i and j, for every pair."""
        a, b = self.label[i], self.label[j]
        differ = a != b
        if differ.any():
            edges = (np.ones(int(differ.sum()), dtype=bool), (a[differ], b[differ]))
            graph = coo_matrix(edges, shape=(len(self.label), len(self.label)))
            self.label = connected_components(graph, directed=False)[1][self.label]


class Neighbours:
    """The near duplicates of every hash. Memory grows with the number of near pairs.

    node: (N,), the number of each picture's hash; pictures with equal hashes have the same.
    """

    def __init__(self, hashes: list[str], distance: int) -> None:
        bits, self.node = np.unique(to_bits(hashes), return_inverse=True)
        found = [np.stack(pair).astype(np.int32) for pair in near_pairs(bits, distance)]
        pairs = np.concatenate([np.zeros((2, 0), np.int32), *found], axis=1)
        both = np.concatenate([pairs, pairs[::-1]], axis=1)
        self.others = both[1][np.lexsort(both[::-1])]
        self.begin = np.concatenate([[0], np.cumsum(np.bincount(both[0], minlength=len(bits)))])

    def of(self, node: int) -> np.ndarray:
        """Return the numbers of the hashes near that of this number, without itself, sorted."""
        return self.others[self.begin[node] : self.begin[node + 1]]


def near_pairs(bits: np.ndarray, distance: int, groups: Groups | None = None) -> Iterator[Pairs]:
    """Yield the pairs of hashes that differ in at most `distance` bits, some at a time.

    bits: uint64 (N,), all different. Every pair comes once. If `groups` is given, which the caller
    joins as pairs come, those within a group may be missing.
    """
    return _search(bits, np.arange(len(bits)), distance, groups)


def _search(
    bits: np.ndarray, members: np.ndarray, distance: int, groups: Groups | None
) -> Iterator[Pairs]:
    """Yield the near pairs among `members`, indexes of `bits`."""
    own = bits[members]
    alike = groups is not None and _others(groups.label[members]).sum() < SORT
    masks, agree = _deal(own, distance) if len(own) > FEW and not alike else ([], 0)
    if not masks:
        yield from _compare(bits, members, distance, groups)
        return
    for chosen in combinations(range(len(masks)), agree):
        if groups is not None and not _others(groups.label[members]).any():
            return
        key = np.bitwise_or.reduce([masks[piece] for piece in chosen])
        # pairs that agree in one of these too were found with an earlier choice
        earlier = [masks[piece] for piece in range(chosen[-1]) if piece not in chosen]
        for i, j in _in_buckets(bits, members, own & key, distance, groups):
            fresh = np.ones(len(i), dtype=bool)
            for mask in earlier:
                fresh &= (bits[i] ^ bits[j]) & mask != 0
            yield i[fresh], j[fresh]


def _in_buckets(
    bits: np.ndarray, members: np.ndarray, keys: np.ndarray, distance: int, groups: Groups | None
) -> Iterator[Pairs]:
    """Yield the near pairs among the members with equal keys."""
    order = np.argsort(keys)
    members, keys = members[order], keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    sizes = np.diff(np.concatenate([starts, [len(keys)]]))
    # small buckets, all at once: each member with the next one, the next but one, …
    left = np.where((sizes > 1) & (sizes <= SMALL), sizes, 0)
    where = starts[left > 1]
    left = left[left > 1]
    last = np.repeat(where + left - 1, left)
    first = np.arange(len(last)) - np.repeat(np.cumsum(left) - left, left) + np.repeat(where, left)
    values = bits[members]
    for offset in range(1, int(left.max(initial=1))):
        inside = first + offset <= last
        first, last = first[inside], last[inside]
        near = np.bitwise_count(values[first] ^ values[first + offset]) <= distance
        yield members[first[near]], members[first[near] + offset]
    for start, size in zip(starts[sizes > SMALL], sizes[sizes > SMALL], strict=True):
        yield from _search(bits, members[start : start + size], distance, groups)


def _compare(
    bits: np.ndarray, members: np.ndarray, distance: int, groups: Groups | None
) -> Iterator[Pairs]:
    """Yield the near pairs among the members, each compared with those after it.

    Once most are one group, only the others are compared, with all.
    """
    rows = max(1, BLOCK // max(1, len(members)))
    rest, with_all = members, False
    while len(rest):
        if groups is not None:
            label = groups.label[members]
            others = _others(label)
            if others.mean() < 0.5:
                rest, with_all = rest[groups.label[rest] != label[~others][0]], True
        part, against = rest[:rows], members if with_all else rest
        near = np.bitwise_count(bits[part][:, None] ^ bits[against]) <= distance
        i, j = np.nonzero(near)
        once = part[i] != against[j] if with_all else j > i
        yield part[i[once]], against[j[once]]
        rest = rest[rows:]


def _others(label: np.ndarray) -> np.ndarray:
    """Return which labels, bool (N,), are not the most frequent one."""
    values, counts = np.unique(label, return_counts=True)
    return label != values[counts.argmax()]


def _deal(bits: np.ndarray, distance: int) -> tuple[list[np.uint64], int]:
    """Return masks of pieces of the bits, and in how many of them near hashes are looked up.

    They are those that cost least, by the entropy of the bits; no masks if comparing all pairs
    costs less. Bits that vary most come first, and each piece gets its share of them.
    """
    count = len(bits)
    sample = bits[:: max(1, count // SAMPLE)]
    each = np.uint64(1) << np.arange(64, dtype=np.uint64)
    share = np.array([(sample & one != 0).mean() for one in each])
    varying = np.flatnonzero((np.bitwise_or.reduce(bits) ^ np.bitwise_and.reduce(bits)) & each)
    odds = np.clip(share[varying], 1 / SAMPLE, 1 - 1 / SAMPLE)
    entropy = -odds * np.log2(odds) - (1 - odds) * np.log2(1 - odds)
    costs = {0: count / 2}
    for pieces in range(distance + 1, min(distance + 6, len(varying)) + 1):
        bucket = count / 2 ** (entropy.sum() * (pieces - distance) / pieces)
        large = bucket > SMALL / 4  # then chance makes many larger than SMALL
        costs[pieces] = comb(pieces, distance) * (SORT + bucket / 2 + large * LARGE / bucket)
    best = min(costs, key=lambda pieces: costs[pieces])
    ordered = each[varying[np.argsort(-entropy, kind="stable")]]
    masks = [np.bitwise_or.reduce(ordered[piece::best]) for piece in range(best)]
    return masks, best - distance
