"""A test of whether the mean of residuals depends on inputs, in whatever form."""

import numpy as np

__all__ = ["depends_on"]

# A constant is right if x says nothing about y, as under pure noise. Dependence is reported if none
# of this many random sign flips shows as much. With two sums, chance does so once in a thousand
# data sets.
_NUM_FLIPS = 1999
# Largest number of rows used, since their similarities are a matrix, and the fewest that can prove
# anything.
_NUM_ROWS, _FEW_ROWS = 500, 10
# Width, in sds of a column, within which rows count as alike.
_WIDTH = 0.5


def depends_on(x: np.ndarray, residual: np.ndarray) -> bool:
    """Tell if rows that are alike have residuals that are alike, more than by chance.

    The test sums the products of the residuals of all pairs of rows, weighted by how alike the rows
    are. One weight is the distance in all columns together, which detects slopes and interactions.
    The other is the closeness column by column, which detects waves. Residuals with random signs
    give both sums under chance, whatever the sizes of the residuals depend on (the wild bootstrap).

    Parameters
    ----------
    x : array of shape (rows, features)
        Inputs.
    residual : array of shape (rows, columns)
        Targets less their mean.

    References
    ----------
    C. F. J. Wu, Jackknife, bootstrap and other resampling methods in regression analysis, Annals of
    Statistics 14, 1986. :doi:`10.1214/aos/1176350142`

    X. Shao and J. Zhang, Martingale difference correlation and its use in high-dimensional variable
    screening, JASA 109, 2014. :doi:`10.1080/01621459.2014.887012`
    """
    rows = np.unique(np.linspace(0, len(x) - 1, _NUM_ROWS).round().astype(int))
    if len(rows) < _FEW_ROWS:
        return False
    x, residual = _standardised(x[rows]), _standardised(residual[rows])
    if not x.size or not residual.size:
        return False
    both = residual @ residual.T
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(_NUM_FLIPS + 1, len(rows)))
    signs[0] = 1.0
    sums = (((signs @ (alike * both)) * signs).sum(axis=1) for alike in _alike(x))
    return any(bool((one[0] > one[1:]).all()) for one in sums)


def _alike(x: np.ndarray) -> list[np.ndarray]:
    squares = np.square(x).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0.0))
    near = np.zeros_like(apart)
    for column in x.T:
        near += np.exp(-np.square((column[:, None] - column) / _WIDTH) / 2)
    return [_centred(-apart), _centred(near)]


def _centred(matrix: np.ndarray) -> np.ndarray:
    """Centre rows and columns without the diagonal: a row paired with itself is no evidence."""
    n = len(matrix)
    matrix = matrix - np.diag(np.diag(matrix))
    of_row = matrix.sum(axis=0) / (n - 2)
    centred = matrix - of_row - of_row[:, None] + matrix.sum() / ((n - 1) * (n - 2))
    return centred - np.diag(np.diag(centred))


def _standardised(values: np.ndarray) -> np.ndarray:
    size = values.std(axis=0)
    return ((values - values.mean(axis=0)) / np.where(size > 0, size, 1.0))[:, size > 0]
