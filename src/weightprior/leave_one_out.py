"""Leave-one-out by Pareto-smoothed importance sampling, of the fits that have it."""

import json
import warnings
from typing import Any

import xarray as xr
from arviz_stats.loo import loo

__all__ = ["leave_one_out"]

# With fewer there is no tail to smooth.
_FEWEST = 100


def leave_one_out(fit: xr.DataTree) -> tuple[Any, str]:
    """ArviZ's PSIS-LOO of a single prior's fit, row by row; or None, and why there is none."""
    if fit.attrs["method"] == "map":
        return None, "a MAP is one point, without draws"
    ensemble = fit.attrs["method"] == "ensemble"
    if ensemble and not json.loads(fit.attrs["options"])["anchored"]:
        return None, "members of a deep ensemble are modes, not draws"
    if "log_likelihood" not in fit.children:
        return None, "fitted with log_likelihood=False"
    if "row_weights" in fit["constant_data"]:
        return None, "rows were weighted"
    if fit["log_likelihood"].sizes["chain"] * fit["log_likelihood"].sizes["draw"] < _FEWEST:
        return None, f"fewer than {_FEWEST} draws"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what ArviZ would warn of is its Pareto k
        # A chain of one draw does not tell that members are independent.
        return loo(fit, pointwise=True, reff=1.0 if ensemble else None), ""
