"""How well a ranking by probing agrees with the ranking of trained models, in plain words."""

from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau, permutation_test, spearmanr

from pawprint.params import StageError
from pawprint.tables import read_table

FEWEST = 3  # architectures below which a ranking says nothing
WORDS = (  # from which Kendall's tau on
    (0.999, "the same order"),
    (0.6, "nearly the same order"),
    (0.2, "a somewhat similar order"),
    (-0.2, "orders that have little to do with each other"),
    (-1, "rather the reverse order"),
)


def read_trained(path: Path) -> dict[str, float]:
    """Return the error on valid of each architecture that an earlier `pawprint compare` trained.

    Raises StageError if the table is missing or damaged.
    """
    if not path.is_file():
        raise StageError(f"{path} is missing; `pawprint compare ARCH…` trains and writes it")
    try:
        table = read_table(path, valid_error=float)
        if not table["valid_error"].between(0, 1).all():  # False if there is a NaN
            raise ValueError
        return dict(zip(table["arch"], table["valid_error"], strict=True))
    except (StageError, KeyError, ValueError):
        raise StageError(f"{path} is damaged; `pawprint compare ARCH…` writes it again") from None


def describe_agreement(probed: dict[str, float], trained: dict[str, float]) -> str:
    """Return in words how alike two rankings are, by Kendall's tau-b and Spearman's rho.

    probed, trained: errors by architecture, of probed the best first; those in both count. The
    p-value is one-sided, from all orders of up to 7 architectures, or from random ones of more.
    """
    common = [arch for arch in probed if arch in trained]
    if len(common) < FEWEST:
        number = "none" if not common else f"only {len(common)}"
        return (
            f"Agreement with trained models: not known; compare/compare.csv has {number} of these "
            f"architectures, and at least {FEWEST} are needed."
        )
    one, other = (np.array([errors[arch] for arch in common]) for errors in (probed, trained))
    what = f"Agreement with the trained models of compare/compare.csv, {len(common)} in common: "
    if len(set(one)) == 1 or len(set(other)) == 1:
        which = "probing" if len(set(one)) == 1 else "training"
        return f"{what}not known; by {which}, all of them have the same error."

    # pairs in the same order, in the other, and the rest, tied in either ranking
    signs = [
        np.sign(one[i] - one[j]) * np.sign(other[i] - other[j])
        for i, j in combinations(range(len(common)), 2)
    ]
    tau, rho = float(kendalltau(one, other).statistic), float(spearmanr(one, other).statistic)
    words = next(text for least, text in WORDS if tau >= least)
    same, ties = signs.count(1), signs.count(0)
    tied = f", {ties} tied" if ties else ""
    return (
        f"{what}{words}; {same} of {len(signs)} pairs are ordered alike{tied} (Kendall's tau "
        f"{tau:.2f}, Spearman's rho {rho:.2f}). Chance alone agrees as well with p = "
        f"{chance(one, other):.2g}. {say_best(common, one, other)}"
    )


def say_best(common: list[str], probed: np.ndarray, trained: np.ndarray) -> str:
    """Return what the best by probing is worth among the trained ones."""
    first = int(probed.argmin())
    better = int((trained < trained[first]).sum())
    if not better:
        return f"The best by probing, {common[first]}, is the best trained one too."
    return (
        f"The best by probing, {common[first]}, is number {better + 1} of the {len(common)} "
        f"trained ones; the best of those is {common[int(trained.argmin())]}."
    )


def chance(one: np.ndarray, other: np.ndarray) -> float:
    """Return how often a random order has a Kendall's tau as high, the p-value, 0 to 1."""

    def tau(shuffled: np.ndarray) -> float:
        return float(kendalltau(shuffled, other).statistic)

    drawn = permutation_test(
        (one,),
        tau,
        permutation_type="pairings",
        alternative="greater",
        n_resamples=5040,
        random_state=0,
    )
    return float(drawn.pvalue)
