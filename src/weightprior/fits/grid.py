"""Grids of priors: if the best is at an end, a better one may lie beyond."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from weightprior.model.priors.normal import NormalPrior

__all__ = ["Grid", "gain_of_rows", "grid_of", "open_ends"]

# With fewer numbers, every one is at an end.
_MIN_NUMBERS = 3
# A gain in nats, or bits, too small to be worth another fit, however small its error is.
_NOTHING = 0.1

# By the name of an axis, the position of each prior: numbers, which have an order, or others.
Grid = Mapping[str, np.ndarray]


def grid_of(labels: Sequence[Any], coords: Mapping[str, Any], parts: Sequence[NormalPrior]) -> Grid:
    """Return the positions of a stacked prior's parts.

    These are the coordinates that were passed to `stack_priors`. If these hold no numbers, the
    labels are added if they are numbers that do not merely count. Otherwise the geometric mean of
    each prior's scales is added, if all priors have the same centre.

    Parameters
    ----------
    labels : sequence
        Labels of the parts.
    coords : mapping of str to sequence
        Coordinates along them.
    parts : sequence of NormalPrior
        The single priors.
    """
    told = {name: np.asarray(values) for name, values in coords.items()}
    if any(_is_ordered(values) for values in told.values()):
        return told
    names = np.asarray(labels)
    if _is_ordered(names) and not np.array_equal(names, np.arange(len(names))):
        return told | {"prior": names}
    centers = [_flat(part.loc) for part in parts]
    if not all(np.array_equal(center, centers[0]) for center in centers):
        return told
    with np.errstate(divide="ignore"):
        scales = np.exp([np.log(_flat(part.scale)).mean() for part in parts])
    # Rounded to few enough digits that rounding errors do not make equal scales differ.
    return told | {"scale": np.array([float(f"{scale:.6g}") for scale in scales])}


def open_ends(grid: Grid, best: int, gain: Callable[[int, int], tuple[float, float]]) -> str:
    """Say at which ends of a grid the best prior is, if it beats its neighbour there.

    Along each axis of numbers, the best is compared with the priors that have its position on all
    other axes. It must be better by more than one standard error: a plateau leads nowhere.

    Parameters
    ----------
    grid : mapping of str to array of shape (priors,)
        Position of every prior.
    best : int
        Number of the best prior.
    gain : callable
        Given the numbers of two priors, their difference and its standard error.

    Returns
    -------
    str
        Empty if nothing is open.
    """
    told, seen = [], []
    for name, values in grid.items():
        if not _is_ordered(values) or any(_tells(values, one) for one in seen):
            continue
        seen.append(values)
        others = [v for other, v in grid.items() if other != name and not _tells(values, v)]
        line = np.flatnonzero(np.all([v == v[best] for v in (*others, np.zeros(len(values)))], 0))
        line = line[np.argsort(values[line], kind="stable")]
        if len(np.unique(values[line])) < _MIN_NUMBERS or best not in (line[0], line[-1]):
            continue
        low, high = values[line[[0, -1]]]
        end, next_one = ("lower", line[1]) if best == line[0] else ("upper", line[-2])
        difference, error = gain(best, int(next_one))
        if difference > np.fmax(error, _NOTHING) and np.isfinite(values[best]):
            axis = "the priors" if name == "prior" else name
            beyond = f"below {low:g}" if end == "lower" else f"above {high:g}"
            told.append(f"the {end} end of {axis}, {low:g} to {high:g}: extend the grid {beyond}")
    return "; and at ".join(told)


def gain_of_rows(terms: np.ndarray, rows: Any) -> Callable[[int, int], tuple[float, float]]:
    """Return a function for the gain of one prior over another, summed over rows, with its error.

    Parameters
    ----------
    terms : array of shape (priors, rows)
        Summed over the rows.
    rows : Rows
        Number of times each row counts.
    """

    def gain(one: int, other: int) -> tuple[float, float]:
        paired = terms[one] - terms[other]
        return float(rows.total(paired)), rows.standard_error(paired)

    return gain


def _is_ordered(values: np.ndarray) -> bool:
    return values.dtype.kind in "iuf"


def _tells(values: np.ndarray, others: np.ndarray) -> bool:
    """Tell if priors that share one number always share the other."""
    pairs = set(zip(values.tolist(), others.tolist(), strict=True))
    return len(pairs) == len({first for first, _ in pairs})


def _flat(arrays: Mapping[str, Any]) -> np.ndarray:
    return np.concatenate([np.ravel(array) for array in arrays.values()])
