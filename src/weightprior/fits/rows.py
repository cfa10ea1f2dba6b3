"""Rows that are summed over: how often each counts, and which rows form a group."""

from typing import Any, NamedTuple, Self

import numpy as np
import xarray as xr

from weightprior import _data

__all__ = ["Rows"]


class Rows(NamedTuple):
    """Rows that are summed over.

    Attributes
    ----------
    weights : array of shape (rows,)
        Number of times each row counts; a row of weight 2 counts as two rows.
    groups : array of int of shape (rows,) or None
        The group of each row, from 0; None if rows are independent of each other.
    """

    weights: np.ndarray
    groups: np.ndarray | None = None

    @classmethod
    def of(cls, data: xr.Dataset) -> Self:
        """Read the rows of a fit's constant data, or of a cross-validation."""
        once = np.ones(data.sizes["obs_id"])
        weights = data["row_weights"].to_numpy() if "row_weights" in data else once
        groups = data["group"].to_numpy() if "group" in data.coords else None
        return cls(weights, groups if groups is None else np.unique(groups, return_inverse=True)[1])

    @classmethod
    def checked(cls, row_weights: Any, x: Any) -> Self:
        """Check row weights as a user passed them, or raise; by default each row counts once."""
        weights = (
            np.ones(_data.num_rows(x)) if row_weights is None else _data.row_weights(row_weights, x)
        )
        if not weights.any():
            raise ValueError("row_weights: expected a row that counts; got weights of 0 alone.")
        return cls(weights)

    def take(self, chosen: np.ndarray) -> Self:
        """Take some of the rows, by a mask."""
        return type(self)(
            self.weights[chosen], None if self.groups is None else self.groups[chosen]
        )

    @property
    def number(self) -> float:
        """Number of rows, each as often as it counts."""
        return float(self.weights.sum())

    def total(self, terms: np.ndarray) -> Any:
        """Sum over the rows, which are the last axis."""
        return (self.weights * terms).sum(axis=-1)

    def mean(self, values: np.ndarray) -> Any:
        """Average over the rows, which are the first axis."""
        return np.average(values, axis=0, weights=self.weights)

    def standard_error(self, terms: np.ndarray) -> float:
        """Compute the standard error of the sum of terms; NaN for a single row, or group."""
        values, counts = self._independent(terms)
        number = counts.sum()
        if number <= 1 or (len(values) < 2 and self.groups is not None):
            return float("nan")
        deviations = values - np.average(values, weights=counts)
        return float(np.sqrt(number * (counts * deviations**2).sum() / (number - 1)))

    def bootstrap(self, terms: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sum over rows, or groups, drawn with replacement; rows are the last axis."""
        values, counts = self._independent(terms)
        equal = np.all(counts == 1)
        drawn = rng.choice(
            len(counts), size=int(np.rint(counts.sum())), p=None if equal else counts / counts.sum()
        )
        return values @ np.bincount(drawn, minlength=len(counts))

    def _independent(self, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the terms of independent rows or groups, and how often each counts."""
        if self.groups is None:
            return terms, self.weights
        weighted = np.atleast_2d(terms * self.weights)
        sums = np.stack([np.bincount(self.groups, weights=row) for row in weighted])
        return sums.reshape((*terms.shape[:-1], -1)), np.ones(sums.shape[1])
