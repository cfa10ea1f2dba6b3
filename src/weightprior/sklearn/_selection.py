"""Choice of the scale of a prior, by cross-validation or by the evidence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

import weightprior as wp
from weightprior import _checks
from weightprior.evaluation._folds import dealt
from weightprior.evaluation._metrics import log_mean
from weightprior.evaluation.choice import choice, ends_of
from weightprior.evaluation.refits import Refit, refit
from weightprior.fits.rows import Rows
from weightprior.sklearn._padding import Padded

__all__ = ["CRITERIA", "by_evidence", "by_folds", "selection"]

_NUM_FOLDS = 5


def selection(
    criterion: str,
    bnn: wp.BNN,
    data: Padded,
    prior: wp.NormalPrior,
    fit: Callable[..., xr.DataTree],
    evidence_fit: Callable[..., xr.DataTree],
    seed: int,
) -> xr.Dataset:
    """Compare the priors of a stack, and name the `chosen` one.

    Parameters
    ----------
    criterion : str
        One of `CRITERIA`.
    bnn, data, prior
        Model, data and prior of the fits.
    fit, evidence_fit : callable
        Fit functions: one for folds, and one for the evidence.
    seed : int
        Decides the folds.
    """
    compare, label = _COMPARISONS[criterion]
    fit = evidence_fit if criterion == "evidence" else fit
    with _checks.held_warnings() as told:
        found = compare(bnn, data, prior, fit, seed)
    found = found.assign(chosen=found[label])
    # Problems of scales that were not chosen are not warned about, but can be read here.
    found.attrs["warnings"] = "\n".join(told)
    if found["trouble"].sel(prior=found["chosen"]):
        for message in told:
            _checks.warn(message)
    return found


def by_folds(
    bnn: wp.BNN, data: Padded, prior: wp.NormalPrior, fit: Callable[..., xr.DataTree], seed: int
) -> xr.Dataset:
    """Compare priors by five folds, with one call of a fit function for all fits."""
    counted = np.flatnonzero(data.row_weights)
    num_folds = min(_NUM_FOLDS, len(counted))
    if num_folds < 2:
        raise ValueError(
            "scale: expected at least two rows to choose among several scales; got n_samples=1. "
            "Give one scale, or select='evidence'."
        )
    order = np.random.default_rng(seed).permutation(len(counted))
    fold = np.full(len(data.x), -1)
    fold[counted] = dealt(bnn, np.asarray(data.y)[counted], num_folds, order)
    counts = {f"fold {f}": data.row_weights * (fold != f) for f in range(num_folds)}
    _, fits = refit(bnn, data.x, data.y, prior=prior, fit=fit, counts=counts)
    elpd_i = np.empty((len(fits), len(counted)))
    for of_prior, row in zip(fits, elpd_i, strict=True):
        for f, one in enumerate(of_prior):
            held = fold[counted] == f
            row[held] = log_mean(one.log_likelihood[..., counted[held]])
    rows = Rows(data.row_weights[counted])
    found = choice(bnn, elpd_i, rows, prior, _checks.random_key(seed))
    found["elpd"] = "prior", rows.total(elpd_i)
    found["trouble"] = "prior", [any(map(_trouble, of_prior)) for of_prior in fits]
    found["elpd_se"] = "prior", [rows.standard_error(row) for row in elpd_i]
    found.attrs = {"num_folds": num_folds, "note": ends_of(prior, elpd_i, rows)}
    return found


def by_evidence(
    bnn: wp.BNN, data: Padded, prior: wp.NormalPrior, fit: Callable[..., xr.DataTree], seed: int
) -> xr.Dataset:
    """Compare priors by the evidence of all rows, with one fit per prior."""
    tree = fit(bnn, data.x, data.y, prior=prior, row_weights=data.row_weights)
    found = wp.log_evidence(tree)
    known = np.isfinite(found["log_evidence"])
    if not known.any():
        raise ValueError(
            "select: expected an evidence of some scale; got no known one "
            f"({found['reason'][0].item()}). Choose by select='cv'."
        )
    return found.assign(best=found["log_evidence"].where(known).idxmax(), trouble=~known)


def _trouble(one: Refit) -> bool:
    """Tell if a fit did not converge, or diverged."""
    return not one.stats.get("converged", True) or one.stats.get("divergences", 0) > 0


# Function that compares, and the name of the chosen label.
_COMPARISONS: dict[str, tuple[Callable[..., Any], str]] = {
    "cv": (by_folds, "best"),
    "one_se": (by_folds, "one_se"),
    "evidence": (by_evidence, "best"),
}
CRITERIA = tuple(_COMPARISONS)
