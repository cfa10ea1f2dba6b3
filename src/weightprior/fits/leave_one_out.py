"""Leave-one-out by Pareto-smoothed importance sampling, for the fits that allow it."""

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from arviz_stats.loo import loo as arviz_loo
from arviz_stats.sampling_diagnostics import ess
from scipy.special import logsumexp

from weightprior.fits.importance import pareto_smoothed
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.rows import Rows

__all__ = ["Loo", "leave_one_out"]

_loo: Any = arviz_loo  # for these arguments it never returns a tuple
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
    if blocks is None:
        if "log_likelihood" not in fit.children:
            return None, "fitted with log_likelihood=False"
        kept = fit["log_likelihood"].dataset["y"].transpose(*SAMPLE_DIMS, "obs_id").to_numpy()
        blocks = (terms for terms in [kept[..., counted]])
    if posterior.sizes["chain"] * posterior.sizes["draw"] < _MIN_DRAWS:
        return None, f"fewer than {_MIN_DRAWS} draws"
    rows, efficiency, pieces, done = rows.take(counted), _relative_efficiency(posterior), [], 0
    for terms in blocks:
        weights = rows.weights[done : done + terms.shape[-1]]
        pieces.append(_of_block(posterior, terms, weights, efficiency))
        done += len(weights)
    elpd_i, lpd_i, k = (
        np.concatenate(of_blocks) for of_blocks in list(zip(*pieces, strict=True))[:3]
    )
    return Loo(
        float(rows.total(elpd_i)),
        rows.standard_error(elpd_i),
        float(rows.total(lpd_i - elpd_i)),
        elpd_i,
        lpd_i,
        k,
        pieces[0][3],
        rows,
    ), ""


def _of_block(
    posterior: xr.Dataset, terms: np.ndarray, weights: np.ndarray, efficiency: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return log densities of rows left out and kept in, Pareto k, and the largest good k."""
    of_rows = xr.Dataset({"y": ((*SAMPLE_DIMS, "obs_id"), terms)})
    tree = xr.DataTree.from_dict({"posterior": posterior, "log_likelihood": of_rows})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ would only warn of the Pareto k
        once = np.all(weights == 1)
        try:
            given = {} if once else _importance(of_rows["y"], weights, efficiency)
            found = _loo(tree, pointwise=True, reff=efficiency, **given)
        except ValueError:  # draws that never vary have no tail
            given = _importance(of_rows["y"], weights, efficiency)
            found = _loo(tree, pointwise=True, reff=efficiency, **given)
    k = found.pareto_k.to_numpy()
    lpd_i = logsumexp(terms, axis=(0, 1)) - np.log(terms[..., 0].size)
    # NaN is the k of a row with a density of 0, or one that overflows.
    k = np.where(np.isnan(k), np.inf, k)
    return found.elpd_i.to_numpy(), lpd_i, k, float(found.good_k)


def _importance(
    terms: xr.DataArray, weights: np.ndarray, efficiency: float
) -> dict[str, xr.DataArray]:
    """Smooth log weights of draws for each row, left out as often as it counts; with Pareto k."""
    ratios = (-weights * terms.to_numpy()).reshape(-1, len(weights))
    smoothed, k = zip(*(pareto_smoothed(ratio, efficiency) for ratio in ratios.T), strict=True)
    log_weights = np.stack([one - logsumexp(one) for one in smoothed], axis=-1)
    return {
        "log_weights": terms.copy(data=log_weights.reshape(terms.shape)),
        "pareto_k": terms.isel(chain=0, draw=0, drop=True).copy(data=np.array(k)),
    }


def _relative_efficiency(posterior: xr.Dataset) -> float:
    """Return effective draws over draws, averaged over all weights as ArviZ's LOO does."""
    num_chains, num_draws = (posterior.sizes[dim] for dim in SAMPLE_DIMS)
    if num_chains == 1 or num_draws == 1:
        return 1.0
    effective = ess(posterior, method="mean")
    mean = np.mean(np.concatenate([np.ravel(values) for values in effective.values()]))
    return float(mean / (num_chains * num_draws)) if np.isfinite(mean) else 1.0
