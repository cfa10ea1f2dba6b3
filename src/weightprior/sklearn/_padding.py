"""Padding of rows to a few sizes, so that new numbers of rows compile nothing."""

from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np
import xarray as xr

__all__ = ["Padded", "padded", "size_for"]

# Fewer rows than this cost less to compute than another size costs to compile. With powers of two
# alone, four fifths of the rows, as in folds, usually have the same size as all rows.
_SMALLEST, _MANY = 16, 1024


def size_for(number: int) -> int:
    """Return the smallest size for at least this number of rows.

    The sizes are powers of two and, for many rows, three quarters of powers of two as well.
    """
    power = max(_SMALLEST, 1 << (number - 1).bit_length())
    between = power * 3 // 4
    return between if power >= _MANY and number <= between else power


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
        Number of times each row counts, 0 for the added rows.
    number : int
        Number of rows without padding.
    """

    x: np.ndarray
    y: np.ndarray
    row_weights: np.ndarray
    number: int

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, row_weights: np.ndarray) -> Self:
        """Pad rows to one of the sizes."""
        counts = padded(row_weights)
        counts[len(x) :] = 0
        return cls(padded(x), padded(y), counts, len(x))

    def without_padding(
        self, fit: xr.DataTree, row_coords: Mapping[str, np.ndarray], weighted: bool
    ) -> xr.DataTree:
        """Return a fit without the added rows.

        Parameters
        ----------
        fit : DataTree
            A fit of the padded rows.
        row_coords : mapping of str to array of shape (rows,)
            Coordinates of the rows.
        weighted : bool
            True if weights were given; otherwise they are left out.
        """
        named = {name: ("obs_id", values) for name, values in row_coords.items()}

        def shortened(group: xr.Dataset) -> xr.Dataset:
            if "obs_id" not in group.dims:
                return group
            rows = group.isel(obs_id=slice(self.number)).assign_coords(named)
            return rows if weighted else rows.drop_vars("row_weights", errors="ignore")

        return xr.DataTree.from_dict({at: shortened(group) for at, group in fit.to_dict().items()})
