"""Numbers of rows out of a few sizes, so that new ones compile nothing."""

from typing import NamedTuple, Self

import numpy as np
import xarray as xr

__all__ = ["Padded", "padded", "size_for"]

_SMALLEST = 16


def size_for(number: int) -> int:
    """Return the smallest size that holds so many rows: powers of two, and three quarters of them.

    At least two thirds of the rows that are computed are then real, but for the smallest size.
    """
    power = max(_SMALLEST, 1 << (number - 1).bit_length())
    between = power * 3 // 4
    return between if power > _SMALLEST and number <= between else power


def padded(rows: np.ndarray) -> np.ndarray:
    """Repeat the last row until the number of rows is one of the sizes."""
    return rows[np.minimum(np.arange(size_for(len(rows))), len(rows) - 1)]


class Padded(NamedTuple):
    """Rows of a fit, padded with rows that do not count.

    Attributes
    ----------
    x, y : array
        Inputs and targets.
    row_weights : array of shape (rows,)
        How often each row counts, 0 for those that were added.
    number : int
        Rows that were there.
    """

    x: np.ndarray
    y: np.ndarray
    row_weights: np.ndarray
    number: int

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, row_weights: np.ndarray) -> Self:
        """Pad rows."""
        counts = padded(row_weights)
        counts[len(x) :] = 0
        return cls(padded(x), padded(y), counts, len(x))

    def without_padding(self, fit: xr.DataTree, weighted: bool) -> xr.DataTree:
        """Return a fit of the rows that were there; of their weights only if they were given."""

        def shortened(group: xr.Dataset) -> xr.Dataset:
            rows = group.isel(obs_id=slice(self.number)) if "obs_id" in group.dims else group
            return rows if weighted else rows.drop_vars("row_weights", errors="ignore")

        found = {path: shortened(node.to_dataset()) for path, node in fit.to_dict().items()}
        return xr.DataTree.from_dict(found)
