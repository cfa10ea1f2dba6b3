"""Leave-one-out by Pareto-smoothed importance sampling, of the fits that have it."""

import warnings
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

_loo: Any = arviz_loo  # which returns a tuple for none of these arguments
# With fewer there is no tail to smooth.
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
    elpd_i, pareto_k : array of shape (rows,)
        Of each row, once; a row is left out as often as it counts.
    good_k : float
        Largest Pareto k that is to be relied on.
    rows : Rows
        How often each row counts.
    """

    elpd: float
    se: float
    p: float
    elpd_i: np.ndarray
    pareto_k: np.ndarray
    good_k: float
    rows: Rows

    @property
    def reliable(self) -> bool:
        """Tell if every row's Pareto k is good."""
        return bool(np.all(self.pareto_k <= self.good_k))


def leave_one_out(fit: xr.DataTree) -> tuple[Loo | None, str]:
    """PSIS-LOO of a single prior's fit by ArviZ, row by row; or None, and why there is none."""
    if reason := _WITHOUT_DRAWS.get(fit.attrs["draws"]):
        return None, reason
    if "log_likelihood" not in fit.children:
        return None, "fitted with log_likelihood=False"
    num_chains, num_draws = (fit["log_likelihood"].sizes[dim] for dim in SAMPLE_DIMS)
    if num_chains * num_draws < _MIN_DRAWS:
        return None, f"fewer than {_MIN_DRAWS} draws"
    rows = Rows.of(fit["constant_data"].dataset)
    counted = rows.weights > 0
    terms = fit["log_likelihood"].dataset.isel(obs_id=counted)
    return _loo_of(fit["posterior"].dataset, terms, rows.take(counted)), ""


def _loo_of(posterior: xr.Dataset, terms: xr.Dataset, rows: Rows) -> Loo:
    tree = xr.DataTree.from_dict({"posterior": posterior, "log_likelihood": terms})
    # A chain of one draw does not tell that chains are independent.
    efficiency = 1.0 if terms.sizes["draw"] == 1 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what ArviZ would warn of is its Pareto k
        try:
            weights = {} if np.all(rows.weights == 1) else _importance(tree, rows)
            found = _loo(tree, pointwise=True, reff=efficiency, **weights)
        except ValueError:  # draws that never vary have no tail
            found = _loo(tree, pointwise=True, reff=efficiency, **_importance(tree, rows))
    elpd_i, k = found.elpd_i.to_numpy(), found.pareto_k.to_numpy()
    # NaN is the k of a row whose density is 0, or overflows.
    k = np.where(np.isnan(k), np.inf, k)
    lpd_i = terms["y"].to_numpy()
    lpd_i = logsumexp(lpd_i, axis=(0, 1)) - np.log(lpd_i[..., 0].size)
    return Loo(
        float(rows.total(elpd_i)),
        rows.standard_error(elpd_i),
        float(rows.total(lpd_i - elpd_i)),
        elpd_i,
        k,
        float(found.good_k),
        rows,
    )


def _importance(tree: xr.DataTree, rows: Rows) -> dict[str, xr.DataArray]:
    """Smoothed log weights of draws for each row, left out as often as it counts, and Pareto k."""
    terms = tree["log_likelihood"].dataset["y"].transpose(*SAMPLE_DIMS, "obs_id")
    efficiency = _relative_efficiency(tree["posterior"].dataset)
    ratios = (-rows.weights * terms.to_numpy()).reshape(-1, len(rows.weights))
    smoothed, k = zip(*(pareto_smoothed(ratio, efficiency) for ratio in ratios.T), strict=True)
    log_weights = np.stack([one - logsumexp(one) for one in smoothed], axis=-1)
    return {
        "log_weights": terms.copy(data=log_weights.reshape(terms.shape)),
        "pareto_k": terms.isel(chain=0, draw=0, drop=True).copy(data=np.array(k)),
    }


def _relative_efficiency(posterior: xr.Dataset) -> float:
    """Effective draws over draws, mean over all weights, as ArviZ has it for its LOO."""
    num_chains, num_draws = (posterior.sizes[dim] for dim in SAMPLE_DIMS)
    if num_chains == 1 or num_draws == 1:
        return 1.0
    effective = ess(posterior, method="mean")
    mean = np.mean(np.concatenate([np.ravel(values) for values in effective.values()]))
    return float(mean / (num_chains * num_draws)) if np.isfinite(mean) else 1.0
