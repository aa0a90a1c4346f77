"""Which unlabelled pictures would teach a classifier most: unsure, unlike what is there, diverse.

The labelled and the unlabelled pictures are put into clusters together, one for each label there
is and each that is wanted. Clusters without a labelled picture come first: that is what the model
has not seen. Of these, those come first about whose pictures it is unsure, and of each the picture
in its middle is chosen, so that no two are alike. The clusters are those of TypiClust (Hacohen et
al., "Active Learning on a Budget", arXiv:2202.02794), and their order adds the margin between the
two likeliest classes (Scheffer et al., 2001). benchmarks/suggest.py measures it beside chance and
other ways; docs/suggest.md has the figures.
"""

import warnings
from collections.abc import Iterator

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from pawprint.judging.near_duplicates import Neighbours

CLUSTERS = 500  # at most, as in the paper


def unsureness(probabilities: np.ndarray) -> np.ndarray:
    """Return 1 less the margin between the two likeliest classes, (N,), for (N, classes)."""
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities))
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    return 1 - (top[:, 1] - top[:, 0])


def choose_to_label(
    features: np.ndarray,
    probabilities: np.ndarray,
    labelled: np.ndarray,
    count: int,
    seed: int = 0,
) -> np.ndarray:
    """Return the rows of the pictures to label, the one that teaches most first, (count,).

    features: of the unlabelled pictures, (N, F); probabilities: what the model says of them,
    (N, classes); labelled: features of those with a label, (M, F); seed: of the clusters.
    """
    count = min(count, len(features))
    if not count:
        return np.zeros(0, dtype=np.int64)
    unsure = unsureness(probabilities)
    together = unit(np.concatenate([labelled, features]).astype(np.float32))
    clusters = min(len(labelled) + count, CLUSTERS, len(together))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # fewer different pictures than clusters
        found = KMeans(clusters, n_init=1, random_state=seed).fit(together)
    has_label = set(found.labels_[: len(labelled)].tolist())
    here, rows = found.labels_[len(labelled) :], together[len(labelled) :]

    # one of each cluster, those without a label first; then the next of each
    order: list[tuple[int, bool, float, int]] = []
    for cluster in np.unique(here):
        members = np.flatnonzero(here == cluster)
        distance = ((rows[members] - found.cluster_centers_[cluster]) ** 2).sum(axis=1)
        weight = float(unsure[members].sum())
        for turn, member in enumerate(members[np.argsort(distance, kind="stable")].tolist()):
            order.append((turn, int(cluster) in has_label, -weight, member))
    return np.array([member for *_, member in sorted(order)[:count]], dtype=np.int64)


def novelty(features: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return each picture's cosine distance to the nearest labelled one, (N,); 2 without any."""
    if not len(labelled):
        return np.full(len(features), 2.0)
    known, found = unit(labelled), np.empty(len(features))
    for start in range(0, len(features), 1024):
        part = unit(features[start : start + 1024])
        found[start : start + len(part)] = 1 - (part @ known.T).max(axis=1)
    return found


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def drop_copies(hashes: list[str], known: list[str], distance: int) -> Iterator[bool]:
    """Yield for each picture whether it is a near duplicate of a known or an earlier one.

    hashes, known: perceptual hashes, 16 hex digits; distance: bits in which copies may differ.
    """
    near = Neighbours([*known, *hashes], distance)
    taken = set(near.node[: len(known)].tolist())
    for node in near.node[len(known) :].tolist():
        is_copy = node in taken or not taken.isdisjoint(near.of(node).tolist())
        if not is_copy:
            taken.add(node)
        yield is_copy
