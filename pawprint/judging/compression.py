"""Features of many pictures, turned and cut to their main directions without all being in memory.

Two passes over the rows, some at a time: the first adds up what they have in common, a matrix of
columns by columns; the second turns every row to the matrix's first eigenvectors (principal
components). Memory is that of the result, COLUMNS numbers of float32 per picture.
"""

from collections.abc import Callable, Iterator

import numpy as np

COLUMNS = 256  # directions that are kept

# yields indexes and features (n, F) of some pictures, until all have come once
Blocks = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]


def compress_standardised(blocks: Blocks, count: int) -> np.ndarray:
    """Return the features of `count` pictures, centred and scaled, float32 (count, K).

    Each column has mean 0 and variance 1 / F before the turn, as for the SVD of fewer pictures.
    """
    total: np.ndarray = np.zeros(())
    products: np.ndarray = np.zeros(())
    for _, rows in blocks():
        wide = rows.astype(np.float64)
        total, products = total + wide.sum(axis=0), products + wide.T @ wide
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    spread = np.sqrt(np.maximum(np.diag(covariance), 0))
    spread[spread <= 1e-9 * np.abs(mean).max()] = 1  # a column that is constant, but for rounding
    turn = _main_directions(covariance / np.outer(spread, spread))
    turn = turn / (spread * np.sqrt(len(spread)))[:, None]
    return _turned(blocks, count, lambda rows: (rows - mean) @ turn)


def compress_directions(blocks: Blocks, count: int) -> np.ndarray:
    """Return the features of `count` pictures as vectors of length 1, float32 (count, K).

    Their inner products, less what the directions left out hold of them, are the cosines.
    """
    products: np.ndarray = np.zeros(())
    for _, rows in blocks():
        wide = _unit(rows.astype(np.float64))
        products = products + wide.T @ wide
    turn = _main_directions(products / count)
    return _turned(blocks, count, lambda rows: _unit(_unit(rows) @ turn))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return rows at length 1; zeros stay."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _main_directions(matrix: np.ndarray) -> np.ndarray:
    """Return the first eigenvectors of a symmetric matrix (F, F), as columns: (F, K)."""
    vectors = np.linalg.eigh(matrix)[1]
    return vectors[:, ::-1][:, :COLUMNS]


def _turned(blocks: Blocks, count: int, turn: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return `turn` of all rows, in the order of their indexes."""
    result = np.zeros((0, 0), dtype=np.float32)
    for where, rows in blocks():
        turned = turn(rows.astype(np.float64))
        if not len(result):
            result = np.empty((count, turned.shape[1]), dtype=np.float32)
        result[where] = turned
    return result
