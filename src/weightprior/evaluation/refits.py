"""Fits of one model to several sets of its rows, under several priors: one call of a fit function.

Rows that a fit must not see have weight 0 in it. So nothing is compiled per set.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from weightprior import _arrays, _data
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.reading import Draws, log_likelihood_of, parts_of
from weightprior.fits.rows import Rows
from weightprior.model.bnn import BNN
from weightprior.model.priors.normal import NormalPrior, stack_priors

__all__ = ["Refit", "grouped", "refit", "row_weights_of"]


class Refit(NamedTuple):
    """One prior's fit to one set of rows.

    Attributes
    ----------
    model : BNN
        Model of the weights: the user's model, or its linearisation at the MAP.
    weights : dict of str to array
        Draws of every site, (chain, draw, ...).
    row_weights : array of shape (rows,)
        Number of times each row counted; 0 for rows that the fit must not see.
    log_likelihood : array of shape (chain, draw, rows)
        Log likelihood of all rows.
    stats : dict of str to array
        `converged` and `divergences`, if the method reports them.
    """

    model: BNN
    weights: Draws
    row_weights: np.ndarray
    log_likelihood: np.ndarray
    stats: dict[str, Any]


def _carried(fit: Any) -> Any:
    """Return the row weights of a fit function, if it is a partial that has them; else None.

    Raise if `fit` is not a fit function with an argument `row_weights`.
    """
    options = inspect.signature(fit).parameters if callable(fit) else {}
    if "row_weights" not in options:
        raise TypeError(
            "fit: expected a fit function with an argument row_weights, such as fit_map or "
            f"fit_mcmc, or functools.partial of one; got {fit!r}."
        )
    carried = options["row_weights"].default
    return None if carried is inspect.Parameter.empty else carried


def row_weights_of(fit: Any, row_weights: Any, x: Any) -> np.ndarray:
    """Return the number of times each row counts, from the argument or the fit function."""
    carried = _carried(fit)
    if carried is not None and row_weights is not None:
        raise ValueError(
            "row_weights: expected them once; got them as an argument and in the fit function. "
            "Take them out of the fit function."
        )
    return Rows.checked(carried if row_weights is None else row_weights, x).weights


def grouped(argument: str, values: Any, x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of at least two groups in ascending order, and each row's group, or raise.

    `argument` is the name of the groups in the plural.
    """
    group, num_obs = argument.removesuffix("s"), _data.num_rows(x)
    entries = _arrays.entries(argument, values)
    if entries.shape != (num_obs,):
        flat = entries.shape in ((num_obs, 1), (1, num_obs))
        raise ValueError(
            f"{argument}: expected shape {(num_obs,)}, the {group} of every row; got "
            f"{entries.shape}.{f' Pass numpy.ravel({argument}).' if flat else ''}"
        )
    _data.aligned(argument, values, x)
    missing = np.flatnonzero(pd.isna(entries))
    if missing.size:
        raise ValueError(
            f"{argument}: expected the {group} of every row; got {entries[missing[0]]} for row "
            f"{missing[0]}. Give it one, or drop the row."
        )
    labels, of_row = _in_order(argument, entries, values)
    if len(labels) < 2:
        raise ValueError(
            f"{argument}: expected at least two different {argument}; got {len(labels)}."
        )
    return labels, of_row


def _in_order(argument: str, entries: np.ndarray, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the different labels in ascending order, and each row's; raise if unorderable."""
    texts = [isinstance(entry, str) for entry in entries]
    try:
        # NumPy would turn a mix with text into text. A label must be hashable.
        if len({*entries}) and (all(texts) or not any(texts)):
            of_row = np.asarray(values)
            return np.unique(of_row), of_row
    except TypeError:
        pass
    kinds = sorted({type(entry).__name__ for entry in entries})
    raise TypeError(
        f"{argument}: expected labels of one kind, numbers, text or dates; got "
        f"{', '.join(kinds)}. As text they are: [str(label) for label in {argument}]."
    )


def refit(
    bnn: BNN,
    x: Any,
    y: Any,
    *,
    prior: NormalPrior,
    fit: Callable[..., xr.DataTree],
    counts: Mapping[str, np.ndarray],
) -> tuple[str, list[list[Refit]]]:
    """Fit every set of rows under every part of a prior.

    Parameters
    ----------
    bnn, x, y, prior
        Model, data and prior of the fits; `x` and `y` as the user passed them.
    fit : callable
        A fit function.
    counts : mapping of str to array of shape (rows,)
        Number of times each row counts in each set, by the set's name in warnings.

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
        for label in counts
    }
    row_weights = np.tile(np.stack(list(counts.values())).astype(float), (len(names), 1))
    tree = fit(bnn, x, y, prior=stack_priors(stack), row_weights=row_weights)
    fits = _fits_of(bnn, tree, row_weights)
    number = len(counts)
    return tree.attrs["method"], [fits[i : i + number] for i in range(0, len(fits), number)]


def _fits_of(bnn: BNN, tree: xr.DataTree, row_weights: np.ndarray) -> list[Refit]:
    log_likelihood_of(tree)  # raises if there is none
    if tree.attrs.get("interrupted"):
        raise KeyboardInterrupt("fits were interrupted, and a part of their draws is not enough")
    used = [part.row_weights for part in parts_of(bnn, tree)]
    if len(used) != len(row_weights) or not all(map(np.array_equal, used, row_weights)):
        raise ValueError(
            "fit: expected a fit function that uses the row_weights it is given; got fits in which "
            "other rows count. Pass them on: lambda *data, row_weights=None, **options: "
            "fit_map(*data, row_weights=row_weights, **options)."
        )
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
