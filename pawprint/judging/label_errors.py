"""Which labels are likely wrong, and which pictures belong to no class.

Label errors are found by confident learning (Northcutt et al., arXiv:1911.00068; the library
cleanlab). Every picture is judged by a linear model on pretrained features that was fitted without
the picture and without its near duplicates. Odd ones out lie far from all others in these features.
"""

import warnings

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from pawprint.judging.nearest import nearest_distances
from pawprint.params import StageError

# drawings of the folds; fewer if they would judge more than MANY pictures, each of FEW classes
DRAWS, MANY, FEW = 5, 10_000, 20


def judge_labels(
    rows: pd.DataFrame,
    last: np.ndarray,
    maps: np.ndarray,
    *,
    folds: int,
    threshold: float,
    odd: float,
    seed: int,
    turned: bool = False,
) -> pd.DataFrame:
    """Return how likely each label is wrong, one row per picture, the lowest score first.

    rows: columns path, label, group and split, N of them; last: what the head sees (N, F); maps:
    figures of the last block's maps (N, 2 C); folds, threshold, odd: as in `CleanParams`; seed: of
    the folds; turned: both are cut to their main directions already, see compression.py.
    Columns: path, label, split, suggestion, probability, score, issue, suspected, distance, odd.
    score: the label's probability out of fold, 0 to 1 (cleanlab's self-confidence); probability:
    the suggestion's; issue: cleanlab's confident learning finds one, or it is suspected;
    suspected: the model is at least `threshold` sure of another label, which is what is acted on;
    distance, odd: see `odd_ones_out`.
    """
    classes = sorted(rows["label"].unique())
    if len(classes) < 2:
        raise StageError("fewer than two classes are left in train and valid; gather more")
    target, groups = rows["label"].map(classes.index).to_numpy(), rows["group"].to_numpy()

    probabilities = out_of_fold(maps, target, groups, folds, seed, turned)
    best = probabilities.argmax(axis=1)
    sure = probabilities[np.arange(len(rows)), best]
    suspected = (best != target) & (sure >= threshold)
    issue = find_label_issues(
        target, probabilities, filter_by="both", min_examples_per_class=0, n_jobs=1
    )
    distance, is_odd = odd_ones_out(last, groups, odd)
    judged = rows[["path", "label", "split"]].assign(
        suggestion=np.array(classes, dtype=object)[best],
        probability=sure,
        score=get_label_quality_scores(target, probabilities),
        issue=np.where(issue | suspected, "yes", ""),
        suspected=np.where(suspected, "yes", ""),
        distance=distance,
        odd=np.where(is_odd, "yes", ""),
    )
    return judged.sort_values(["score", "path"])


def out_of_fold(
    seen: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    folds: int,
    seed: int,
    turned: bool = False,
) -> np.ndarray:
    """Return probabilities (N, classes) by linear models fitted without the picture and its group.

    seen: features (N, F); target: class indexes (N,); groups: (N,). There are at most as many
    folds as the largest class has pictures, and as there are groups. A picture whose class is
    missing in the other folds cannot be judged: its own label gets the probability 1.
    """
    folds = min(folds, int(np.bincount(target).max()), len(np.unique(groups)))
    own = np.eye(target.max() + 1)[target]
    if folds < 2:
        return own
    # a single drawing of the folds judges by luck if pictures are few: take the mean of several
    work = len(target) * max(1, own.shape[1] // FEW)
    draws = int(np.clip(MANY // work, 1, DRAWS))

    parts = [split_folds(target, groups, folds, seed + draw) for draw in range(draws)]
    if not turned:
        seen = turn(seen)

    # judge twice: the second time a picture counts as much as the first judge believed its label,
    # so that wrong labels teach less
    weight = np.ones(len(target))
    for _ in range(2):
        probabilities = np.zeros(own.shape)
        judged = np.ones(len(target), dtype=bool)
        for drawn in parts:
            for fit, ask in drawn:
                known = np.unique(target[fit])
                judged[ask] &= np.isin(target[ask], known) & (len(known) > 1)
                if len(known) < 2:
                    continue
                linear = LogisticRegression(C=20, max_iter=1000)
                linear.fit(seen[fit], target[fit], weight[fit])
                cells = np.ix_(ask, linear.classes_)
                probabilities[cells] += linear.predict_proba(seen[ask]) / draws
        probabilities[~judged] = own[~judged]
        weight = probabilities[np.arange(len(target)), target] / probabilities.max(axis=1)
    return probabilities


def turn(seen: np.ndarray) -> np.ndarray:
    """Return features (N, F) standardised and turned, (N, min(N, F)).

    There are no more columns than pictures, and to a linear model they are the same.
    """
    scaled = StandardScaler().fit_transform(seen) / np.sqrt(seen.shape[1])
    left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    return left * singular


def split_folds(
    target: np.ndarray, groups: np.ndarray, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (fit, ask) indexes of each fold that holds pictures; a group is in one fold alone."""
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        parts = list(splitter.split(target, target, groups))
    return [(fit, ask) for fit, ask in parts if len(fit) and len(ask)]


def odd_ones_out(
    seen: np.ndarray, groups: np.ndarray, threshold: float, neighbours: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each picture lies from its nearest others, (N,), and whether that is odd.

    seen: features (N, F); groups: (N,), of each of which one picture is compared with. The
    distance is the mean cosine distance to `neighbours` others. It is odd, bool (N,), if it is
    above the median by `threshold` robust standard deviations (1.4826 times the median absolute
    deviation, which is the standard deviation of a normal distribution).
    """
    _, first = np.unique(groups, return_index=True)
    reference = seen[np.sort(first)]
    if len(reference) < 2:
        return np.zeros(len(seen)), np.zeros(len(seen), dtype=bool)
    count = min(neighbours + 1, len(reference))
    distance = nearest_distances(seen, reference, count)[:, 1:].mean(axis=1)
    spread = 1.4826 * np.median(np.abs(distance - np.median(distance)))
    return distance, distance > np.median(distance) + threshold * max(spread, 1e-6)
