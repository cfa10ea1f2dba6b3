"""Choices among priors by the log densities of held-out rows, and their uncertainty."""

import jax
import numpy as np
import xarray as xr

from weightprior.fits.grid import gain_of_rows, grid_of, open_ends
from weightprior.fits.rows import Rows
from weightprior.model.bnn import BNN
from weightprior.model.priors.normal import NormalPrior

__all__ = ["NUM_BOOTSTRAP", "choice", "ends_of"]

NUM_BOOTSTRAP = 1000  # standard error of a probability: at most 0.016


def choice(
    bnn: BNN, elpd_i: np.ndarray, rows: Rows, prior: NormalPrior, key: jax.Array
) -> xr.Dataset:
    """Compare the priors of a stack by the log densities of held-out rows.

    Parameters
    ----------
    bnn : BNN
        The model.
    elpd_i : array of shape (priors, rows)
        Log predictive densities.
    rows : Rows
        Number of times each row counts, and which rows belong together.
    prior : NormalPrior
        The stacked prior.
    key : JAX key
        Decides the bootstrap.

    Returns
    -------
    Dataset
        `elpd_diff`, `elpd_diff_se` and `prob_best` by prior, and the labels `best` and `one_se`, as
        `cross_validate` describes them.
    """
    labels = list(prior.labels or ())
    best = int(rows.total(elpd_i).argmax())
    terms = elpd_i - elpd_i[best]
    diff, diff_se = rows.total(terms), np.array([rows.standard_error(row) for row in terms])
    width = [_width(bnn, part) for part in prior.singles()]
    close = np.flatnonzero((diff >= -diff_se) | (np.arange(len(labels)) == best))
    # The best of equally strong priors; the best prior itself if all are as wide.
    one_se = min(close, key=lambda i: (width[i], -diff[i]))
    return xr.Dataset(
        {
            "elpd_diff": ("prior", diff),
            "elpd_diff_se": ("prior", diff_se),
            "prob_best": ("prior", _prob_best(terms, rows, key)),
            "best": ((), labels[best]),
            "one_se": ((), labels[one_se]),
        },
        {"prior": labels},
    )


def _prob_best(terms: np.ndarray, rows: Rows, key: jax.Array) -> np.ndarray:
    """Compute the share of bootstrap samples of rows in which each prior has the largest sum."""
    # Random numbers other than those for the folds.
    rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(key, 1))))
    won = [np.argmax(rows.bootstrap(terms, rng)) for _ in range(NUM_BOOTSTRAP)]
    return np.bincount(won, minlength=len(terms)) / NUM_BOOTSTRAP


def _width(bnn: BNN, prior: NormalPrior) -> tuple[int, float]:
    """Return a prior's width: number of flat scales, then mean log of the other scales."""
    scales = np.concatenate([np.ravel(prior.scale[name]) for name in bnn.network.sites])
    proper = scales[np.isfinite(scales)]
    return scales.size - proper.size, float(np.log(proper).mean()) if proper.size else 0.0


def ends_of(prior: NormalPrior, elpd_i: np.ndarray, rows: Rows) -> str:
    """Return a note if the best prior of a stack is at the end of a grid, else no text."""
    grid = grid_of(prior.labels or (), dict(prior.coords), prior.singles())
    ends = open_ends(grid, int(rows.total(elpd_i).argmax()), gain_of_rows(elpd_i, rows))
    return f"best at {ends}" if ends else ""
