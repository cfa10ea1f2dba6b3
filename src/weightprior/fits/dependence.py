"""A test of whether residuals depend on inputs, of whatever form, by distances between rows."""

import numpy as np
from scipy import stats

__all__ = ["depends_on"]

# A constant is right where x says nothing about y, as under noise. That it does is said where
# chance would show as much in fewer than one of a thousand data sets.
_CHANCE = 1e-3
# Rows that are looked at: distances between them are a matrix.
_NUM_ROWS = 500


def depends_on(x: np.ndarray, residual: np.ndarray) -> bool:
    """Tell if the mean of residuals depends on x, by distances between rows.

    The martingale difference correlation of Shao and Zhang (2014, doi:10.1080/01621459.2014.887012)
    finds every dependence of a mean. That n times it, plus 1, is below the quantile of a
    chi-squared number is the test of Shen, Panda and Vogelstein (2022,
    doi:10.1080/10618600.2021.1938585), which errs on the side of chance.
    """
    rows = np.unique(np.linspace(0, len(x) - 1, _NUM_ROWS).round().astype(int))
    if len(rows) < 4:
        return False
    x, residual = x[rows], residual[rows]
    size = x.std(axis=0)
    x = (x - x.mean(axis=0))[:, size > 0] / size[size > 0]
    squares = np.square(x).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0.0))
    first, second = _centred(apart), _centred(-residual @ residual.T)
    both = np.sqrt(np.square(first).sum() * np.square(second).sum())
    if not both > 0:
        return False
    correlation = (first * second).sum() / both
    return bool(len(rows) * correlation + 1 > stats.chi2.isf(_CHANCE, 1))


def _centred(matrix: np.ndarray) -> np.ndarray:
    """Centre rows and columns, without their diagonal (Székely and Rizzo 2014)."""
    n, matrix = len(matrix), matrix - np.diag(np.diag(matrix))
    of_row = matrix.sum(axis=0) / (n - 2)
    centred = matrix - of_row - of_row[:, None] + matrix.sum() / ((n - 1) * (n - 2))
    return centred - np.diag(np.diag(centred))
