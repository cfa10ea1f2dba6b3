"""Folds of a cross-validation: the rows that each fit sees, and the rows that it predicts."""

from typing import Any, NamedTuple

import jax
import numpy as np

from weightprior import _checks
from weightprior.evaluation.refits import grouped
from weightprior.model.bnn import BNN

__all__ = ["Folds", "dealt", "folds_of"]


class Folds(NamedTuple):
    """Rows of every fold.

    Attributes
    ----------
    labels : array of shape (folds,)
        Names of the folds.
    seen, held : array of bool of shape (folds, rows)
        Rows that a fold's fit sees, and rows that it predicts. Some rows may be neither.
    """

    labels: np.ndarray
    seen: np.ndarray
    held: np.ndarray

    @property
    def scored(self) -> np.ndarray:
        """Rows that some fold predicts."""
        return self.held.any(axis=0)

    @property
    def of_scored(self) -> np.ndarray:
        """Name of the fold that predicts each row, for every row that some fold predicts."""
        return self.labels[self.held.argmax(axis=0)][self.scored]


def folds_of(
    bnn: BNN,
    x: Any,
    y: np.ndarray,
    *,
    num_folds: Any,
    folds: Any,
    groups: np.ndarray | None,
    key: jax.Array,
) -> Folds:
    """Divide rows into folds at random, by a user's labels, or by a user's splitter.

    Parameters
    ----------
    bnn, x, y
        The model, inputs as a user passed them, and targets, checked.
    num_folds, folds : int, array or splitter
        As a user passed them.
    groups : array of int of shape (rows,) or None
        The group of each row, from 0: groups stay together.
    key : JAX key
        Decides the folds if they are random.
    """
    if hasattr(folds, "split"):
        found = _by_splitter(folds, x, y, groups)
    else:
        labels, of_row = (
            _by_chance(bnn, y, num_folds, groups, key)
            if folds is None
            else grouped("folds", folds, x)
        )
        held = of_row == labels[:, None]
        found = Folds(labels, ~held, held)
    if groups is not None:
        _check_groups(found, groups)
    return found


def _by_chance(
    bnn: BNN, y: np.ndarray, num_folds: Any, groups: np.ndarray | None, key: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    num_folds = _checks.integer("num_folds", num_folds, 2)
    most = len(y) if groups is None else int(groups.max()) + 1
    if num_folds > most:
        what = "row" if groups is None else "group"
        raise ValueError(f"num_folds: expected at most a fold per {what}, {most}; got {num_folds}.")
    order = np.asarray(jax.random.permutation(key, most))
    if groups is not None:
        return np.arange(num_folds), _evenly(np.bincount(groups), order, num_folds)[groups]
    return np.arange(num_folds), dealt(bnn, y, num_folds, order)


def dealt(bnn: BNN, y: np.ndarray, num_folds: int, order: np.ndarray) -> np.ndarray:
    """Deal rows to folds one by one in the given random order, with classes spread evenly."""
    if bnn.likelihood.has_classes and y.ndim == 1:
        order = order[np.argsort(y[order], kind="stable")]
    fold_of_row = np.empty(len(y), int)
    fold_of_row[order] = np.arange(len(y)) % num_folds
    return fold_of_row


def _evenly(sizes: np.ndarray, order: np.ndarray, num_folds: int) -> np.ndarray:
    """Assign every group to a fold: the largest first, each to the fold with the fewest rows."""
    filled, fold_of_group = np.zeros(num_folds, int), np.empty(len(sizes), int)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of_group[group] = filled.argmin()
        filled[fold_of_group[group]] += sizes[group]
    return fold_of_group


def _by_splitter(splitter: Any, x: Any, y: np.ndarray, groups: np.ndarray | None) -> Folds:
    """Return the folds of a scikit-learn splitter, which may leave rows out of either side."""
    pairs = list(splitter.split(x, y, groups))
    seen, held = np.zeros((2, len(pairs), len(y)), bool)
    for fold, (train, test) in enumerate(pairs):
        seen[fold, train], held[fold, test] = True, True
    times = held.sum(axis=0)
    if times.max(initial=0) > 1:
        raise ValueError(
            f"folds: expected every row to be held out at most once; got row {times.argmax()} held "
            f"out {times.max()} times. Pass each repetition of the splitter by itself."
        )
    if np.any(seen & held) or not (seen.any(axis=1) & held.any(axis=1)).all():
        raise ValueError(
            "folds: expected train and test rows in every fold, and no row in both; got a splitter "
            "that makes other folds."
        )
    return Folds(np.arange(len(pairs)), seen, held)


def _check_groups(found: Folds, groups: np.ndarray) -> None:
    for label, seen, held in zip(*found, strict=True):
        torn = np.flatnonzero(held & np.isin(groups, groups[seen]))
        if torn.size:
            other = np.flatnonzero(seen & (groups == groups[torn[0]]))[0]
            raise ValueError(
                f"folds: expected every group on one side of a fold; got rows {other} and {torn[0]}"
                f", of one group, on both sides of fold {label}. Make folds of whole groups, or "
                "leave folds out."
            )
