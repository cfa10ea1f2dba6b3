"""Leave-one-out by Pareto-smoothed importance sampling, for the fits that allow it."""

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from arviz_stats.base.array import array_stats
from arviz_stats.sampling_diagnostics import ess
from scipy.special import logsumexp

from weightprior.fits.importance import largest_good_k, pareto_smoothed
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.rows import Rows

__all__ = ["Loo", "leave_one_out"]

_stats: Any = array_stats  # its annotations are narrower than the types it accepts
# With fewer draws there is no tail to smooth.
_MIN_DRAWS = 100
_WITHOUT_DRAWS = {
    "point": "a MAP is one point, without draws",
    "members": "members of a deep ensemble are modes, not draws",
}


class Loo(NamedTuple):
    """Leave-one-out of one prior's fit, over the rows that count.

    Attributes
    ----------
    elpd, se, p : float
        Log predictive density of all rows, its standard error, and the effective number of
        parameters.
    elpd_i, lpd_i, pareto_k : array of shape (rows,)
        Log density of each row, counted once: with the row left out as often as it counts, and with
        it kept in.
    good_k : float
        Largest Pareto k that is reliable.
    rows : Rows
        Number of times each row counts.
    """

    elpd: float
    se: float
    p: float
    elpd_i: np.ndarray
    lpd_i: np.ndarray
    pareto_k: np.ndarray
    good_k: float
    rows: Rows

    @property
    def reliable(self) -> bool:
        """True if every row's Pareto k is good."""
        return bool(np.all(self.pareto_k <= self.good_k))


def leave_one_out(
    fit: xr.DataTree, blocks: Iterable[np.ndarray] | None = None
) -> tuple[Loo | None, str]:
    """Compute PSIS-LOO of a single prior's fit by ArviZ, row by row; or None, and why not.

    Parameters
    ----------
    fit : DataTree
        A fit of one prior.
    blocks : iterable of arrays of shape (chains, draws, rows), optional
        Log densities of the rows that count, one block of rows after the other. By default those
        that the fit holds.
    """
    if reason := _WITHOUT_DRAWS.get(fit.attrs["draws"]):
        return None, reason
    posterior, rows = fit["posterior"].dataset, Rows.of(fit["constant_data"].dataset)
    counted = rows.weights > 0
    if not counted.any():
        return None, "no row counts"
    if blocks is None:
        if "log_likelihood" not in fit.children:
            return None, "fitted with log_likelihood=False"
        kept = fit["log_likelihood"].dataset["y"].transpose(*SAMPLE_DIMS, "obs_id").to_numpy()
        blocks = (terms for terms in [kept[..., counted]])
    num_draws = posterior.sizes["chain"] * posterior.sizes["draw"]
    if num_draws < _MIN_DRAWS:
        return None, f"fewer than {_MIN_DRAWS} draws"
    rows, efficiency, pieces, done = rows.take(counted), _relative_efficiency(posterior), [], 0
    for terms in blocks:
        weights = rows.weights[done : done + terms.shape[-1]]
        pieces.append(_of_block(terms, weights, efficiency))
        done += len(weights)
    elpd_i, k, lpd_i = (np.concatenate(of_blocks) for of_blocks in zip(*pieces, strict=True))
    return Loo(
        float(rows.total(elpd_i)),
        rows.standard_error(elpd_i),
        float(rows.total(lpd_i - elpd_i)),
        elpd_i,
        lpd_i,
        k,
        largest_good_k(num_draws),
        rows,
    ), ""


def _of_block(
    terms: np.ndarray, weights: np.ndarray, efficiency: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log densities of rows left out, Pareto k, and log densities of rows kept in."""
    lpd_i = logsumexp(terms, axis=(0, 1)) - np.log(terms[..., 0].size)
    if not np.all(weights == 1):
        return *_by_rows(terms, weights, efficiency), lpd_i
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of densities that overflow
            # By arrays: trees would hold the block in memory until Python collects circles.
            elpd_i, k, _ = _stats.loo(terms, chain_axis=0, draw_axis=1, r_eff=efficiency)
    except ValueError:  # draws that never vary have no tail
        return *_by_rows(terms, weights, efficiency), lpd_i
    # NaN is the k of a row with a density of 0, or one that overflows.
    return elpd_i, np.where(np.isnan(k), np.inf, k), lpd_i


def _by_rows(
    terms: np.ndarray, weights: np.ndarray, efficiency: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return log densities of rows, left out as often as each counts, and Pareto k."""
    elpd_i, k = np.empty(len(weights)), np.empty(len(weights))
    for row, (weight, of_row) in enumerate(
        zip(weights, terms.reshape(-1, len(weights)).T, strict=True)
    ):
        log_weights, k[row] = pareto_smoothed(-weight * of_row, efficiency)
        elpd_i[row] = logsumexp(log_weights - logsumexp(log_weights) + of_row)
    return elpd_i, k


def _relative_efficiency(posterior: xr.Dataset) -> float:
    """Return effective draws over draws, averaged over all weights as ArviZ's LOO does."""
    num_chains, num_draws = (posterior.sizes[dim] for dim in SAMPLE_DIMS)
    if num_chains == 1 or num_draws == 1:
        return 1.0
    effective = ess(posterior, method="mean")
    mean = np.mean(np.concatenate([np.ravel(values) for values in effective.values()]))
    return float(mean / (num_chains * num_draws)) if np.isfinite(mean) else 1.0
