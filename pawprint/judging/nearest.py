"""Distances to the nearest others: of all pictures, or by an index where they are many.

The index is an inverted file (Jégou, Douze and Schmid, "Product quantization for nearest neighbor
search", 2011, without the quantisation): k-means divides the pictures into lists, and a picture is
compared with those of the lists around its own. So the cost per picture stays the same. A nearest
other in a list further away is missed, which makes the distance a little larger. scikit-learn
divides; it is installed anyway, and on one thread it repeats to the last bit, which the graphs of
hnswlib and faiss do not if they are built by several.
"""

import numpy as np
from sklearn import config_context
from sklearn.cluster import BisectingKMeans
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

INDEXED = 20_000  # pictures that are compared with all at most
LIST = 256  # pictures in a list, about
PROBES = 12  # lists that a picture is compared with


def nearest_distances(seen: np.ndarray, reference: np.ndarray, count: int) -> np.ndarray:
    """Return the cosine distances to the `count` nearest of the reference, (N, count), sorted.

    seen: features (N, F); reference: (M, F), at least `count`.
    """
    if len(reference) <= INDEXED:
        nearest = NearestNeighbors(n_neighbors=count, metric="cosine").fit(reference)
        with config_context(working_memory=64):  # MB of distances at a time
            return nearest.kneighbors(seen)[0]
    return _by_lists(_unit(seen), _unit(reference), count)


def _by_lists(seen: np.ndarray, reference: np.ndarray, count: int) -> np.ndarray:
    """Return what `nearest_distances` does, for vectors of length 1, by an index."""
    lists = len(reference) // LIST
    with threadpool_limits(1):
        divide = BisectingKMeans(
            lists, random_state=0, max_iter=20, bisecting_strategy="largest_cluster"
        ).fit(reference)
        asking = divide.predict(seen)
    members = _positions(divide.labels_, lists)
    centres = _unit(divide.cluster_centers_)
    found = np.empty((len(seen), count), dtype=np.float64)
    for own, asked in enumerate(_positions(asking, lists)):
        if len(asked):
            around = np.argsort(-(centres @ centres[own]), kind="stable")[:PROBES]
            near = reference[np.concatenate([members[each] for each in around])]
            distance = 1 - seen[asked] @ near.T
            found[asked] = np.sort(np.partition(distance, count - 1, axis=1)[:, :count], axis=1)
    return np.clip(found, 0, 2)


def _positions(label: np.ndarray, count: int) -> list[np.ndarray]:
    """Return where each label, 0 to `count` - 1, stands."""
    order = np.argsort(label, kind="stable")
    return np.split(order, np.searchsorted(label[order], np.arange(1, count)))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return rows as float32 at length 1; zeros stay."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(length > 0, length, 1)).astype(np.float32)
