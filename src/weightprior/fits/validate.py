"""The check of a fit: every group is there, and every number is finite."""

import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior._arrays import all_finite

__all__ = ["check_groups", "validate"]

_GROUPS = ("posterior", "sample_stats", "log_prior", "observed_data", "constant_data")


def check_groups(fit: xr.DataTree) -> None:
    """Raise if a fit lacks a group; `log_likelihood` may be missing."""
    missing = [group for group in _GROUPS if group not in fit.children]
    if missing:
        raise ValueError(
            f"fit: expected the groups {_checks.several(_GROUPS)}; got none of the name "
            f"{_checks.several(missing)}."
        )


def validate(fit: xr.DataTree) -> None:
    """Raise if a fit lacks a group, or holds NaN or infinity in place of a number.

    Raises
    ------
    ValueError
        The message names the group (`log_likelihood` may be missing) or the variable.
    """
    check_groups(fit)
    for group in [name for name in (*_GROUPS, "log_likelihood") if name in fit.children]:
        for name, values in fit[group].dataset.data_vars.items():
            array = values.to_numpy()
            if str(name).startswith("prior_scale."):
                array = array[~np.isposinf(array)]
            if not all_finite(array):
                found = array[~np.isfinite(array)][0]
                raise ValueError(
                    f"fit: expected finite numbers; got {found} in {group}[{name!r}]. "
                    "Are the inputs or the prior's scales so large that the network's outputs "
                    "overflow?"
                )
