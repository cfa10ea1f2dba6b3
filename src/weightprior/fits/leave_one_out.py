"""Leave-one-out by Pareto-smoothed importance sampling, of the fits that have it."""

import warnings
from typing import Any

import xarray as xr
from arviz_stats.loo import loo

from weightprior.fits.layout import SAMPLE_DIMS

__all__ = ["leave_one_out"]

# With fewer there is no tail to smooth.
_MIN_DRAWS = 100
_WITHOUT_DRAWS = {
    "point": "a MAP is one point, without draws",
    "members": "members of a deep ensemble are modes, not draws",
}


def leave_one_out(fit: xr.DataTree) -> tuple[Any, str]:
    """ArviZ's PSIS-LOO of a single prior's fit, row by row; or None, and why there is none."""
    if reason := _WITHOUT_DRAWS.get(fit.attrs["draws"]):
        return None, reason
    if "log_likelihood" not in fit.children:
        return None, "fitted with log_likelihood=False"
    if "row_weights" in fit["constant_data"]:
        return None, "rows were weighted"
    num_chains, num_draws = (fit["log_likelihood"].sizes[dim] for dim in SAMPLE_DIMS)
    if num_chains * num_draws < _MIN_DRAWS:
        return None, f"fewer than {_MIN_DRAWS} draws"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what ArviZ would warn of is its Pareto k
        # A chain of one draw does not tell that chains are independent.
        return loo(fit, pointwise=True, reff=1.0 if num_draws == 1 else None), ""
