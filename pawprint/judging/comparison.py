"""Whether two models differ, from their answers about the same pictures.

Only pictures on which the two disagree count, in McNemar's exact test (McNemar, Psychometrika 12,
1947). How many pictures it would take to see a difference of the size found is Connor's formula
(Biometrics 43, 1987) at a power of 80 %.
"""

import math
from statistics import NormalDist

import numpy as np


def compare_pair(
    one: np.ndarray, other: np.ndarray, names: tuple[str, str]
) -> tuple[float, int, str]:
    """Return McNemar's exact p, the pictures needed to see the difference, and both in words.

    one, other: which pictures each gets wrong, bool (pictures,); names: how to call each.
    """
    won, lost = int((one & ~other).sum()), int((~one & other).sum())
    p = mcnemar(won, lost)
    needed = pictures_needed(won, lost, len(one))
    return p, needed, in_words(int(one.sum()), int(other.sum()), len(one), p, needed, names)


def mcnemar(won: int, lost: int) -> float:
    """Return the p of a fair coin that falls at least as unevenly as `won` to `lost`."""
    n, ways, term = won + lost, 0, 1
    for heads in range(min(won, lost) + 1):
        ways += term  # to throw so many heads
        term = term * (n - heads) // (heads + 1)
    return min(2 * ways / 2**n, 1.0)


def pictures_needed(won: int, lost: int, n: int) -> int:
    """Return how many test pictures would show this difference in four experiments out of five.

    won, lost: of `n` pictures, those that only the second model gets right, and only the first.
    0 if there is no difference.
    """
    differ, gap = (won + lost) / n, abs(won - lost) / n
    if gap == 0:
        return 0
    sided, power = map(NormalDist().inv_cdf, (0.975, 0.8))
    return math.ceil(((sided * math.sqrt(differ) + power * math.sqrt(differ - gap**2)) / gap) ** 2)


def in_words(before: int, after: int, n: int, p: float, needed: int, names: tuple[str, str]) -> str:
    """Return the comparison in plain words; before, after: wrong pictures of `n`."""
    counts = f"{before} of {n} wrong {names[0]}, {after} of {n} {names[1]}"
    if p < 0.05:
        exact = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
        better = "better" if after < before else "worse"
        return f"{counts}: the {better} result is unlikely to be chance ({exact})"
    text = f"{counts}: no evidence of a difference at this size (p = {p:.2f})"
    if needed > n:
        digits = 10 ** max(len(str(needed)) - 2, 0)
        rounded = round(needed / digits) * digits
        text += f"; about {rounded} test pictures would be needed to see it"
    return text
