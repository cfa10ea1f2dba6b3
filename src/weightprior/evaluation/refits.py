"""Fits of one model to several sets of its rows, under several priors: one call of a fit function.

The rows that a fit is not to see do not count in it, so that nothing is compiled for a set.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.reading import Draws, log_likelihood_of, parts_of
from weightprior.model.bnn import BNN
from weightprior.model.priors.normal import NormalPrior, stack_priors

__all__ = ["Refit", "check_fit_function", "grouped", "refit"]


class Refit(NamedTuple):
    """One prior's fit to one set of rows.

    Attributes
    ----------
    model : BNN
        What the weights are of: the model, or its linearisation at the MAP.
    weights : dict of str to array
        Every site's draws, (chain, draw, ...).
    row_weights : array of shape (rows,)
        1 for rows that were fitted, 0 for the others.
    log_likelihood : array of shape (chain, draw, rows)
        Of all rows.
    stats : dict of str to array
        Where the method reports them `converged` and `divergences`.
    """

    model: BNN
    weights: Draws
    row_weights: np.ndarray
    log_likelihood: np.ndarray
    stats: dict[str, Any]


def check_fit_function(fit: Any) -> None:
    """Raise where `fit` is no fit function whose rows can be weighted."""
    usable = callable(fit) and "row_weights" in inspect.signature(fit).parameters
    if not usable:
        raise TypeError(
            "fit: expected a fit function with an argument row_weights, such as fit_map or "
            f"fit_mcmc, or functools.partial of one; got {fit!r}."
        )


def grouped(argument: str, values: Any, num_obs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the groups in ascending order, at least two, and each row's; raise otherwise.

    `argument` is the plural of what a group is called.
    """
    group, of_row = argument.removesuffix("s"), np.asarray(values)
    if of_row.shape != (num_obs,):
        raise ValueError(
            f"{argument}: expected shape {(num_obs,)}, the {group} of every row; got "
            f"{of_row.shape}."
        )
    missing = np.flatnonzero(pd.isna(of_row))
    if missing.size:
        raise ValueError(
            f"{argument}: expected the {group} of every row; got {of_row[missing[0]]} for row "
            f"{missing[0]}. Give it one, or drop the row."
        )
    labels = np.unique(of_row)
    if len(labels) < 2:
        raise ValueError(
            f"{argument}: expected at least two different {argument}; got {len(labels)}."
        )
    return labels, of_row


def refit(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: NormalPrior,
    fit: Callable[..., xr.DataTree],
    kept: Mapping[str, np.ndarray],
) -> tuple[str, list[list[Refit]]]:
    """Fit every set of rows under every part of a prior.

    Parameters
    ----------
    bnn, x, y, prior
        What is fitted; `x` and `y` as the user passed them.
    fit : callable
        A fit function.
    kept : mapping of str to array of bool of shape (rows,)
        The rows of each set, by what a warning is to call it.

    Returns
    -------
    str
        The method of the fits.
    list of list of Refit
        For every part of the prior, one per set.
    """
    names = prior.labels or ("prior",)
    stack = {
        f"{name}, {label}": part
        for name, part in zip(names, prior.singles(), strict=True)
        for label in kept
    }
    counts = np.tile(np.stack(list(kept.values())).astype(float), (len(names), 1))
    tree = fit(bnn, x, y, prior=stack_priors(stack), row_weights=counts)
    fits = _fits_of(bnn, tree, counts)
    return tree.attrs["method"], [fits[i : i + len(kept)] for i in range(0, len(fits), len(kept))]


def _fits_of(bnn: BNN, tree: xr.DataTree, row_weights: np.ndarray) -> list[Refit]:
    log_likelihood_of(tree)  # which has to be there
    return [
        Refit(
            part.model,
            part.weights,
            row_weights[i],
            log_likelihood_of(part.fit).transpose(*SAMPLE_DIMS, "obs_id").to_numpy(),
            _trouble(part.stats),
        )
        for i, part in enumerate(parts_of(bnn, tree))
    ]


def _trouble(stats: xr.Dataset) -> dict[str, Any]:
    found = {}
    if "converged" in stats:
        found["converged"] = stats["converged"].all().item()
    if "diverging" in stats:
        found["divergences"] = stats["diverging"].sum().item()
    return found
