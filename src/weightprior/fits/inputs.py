"""Inputs of a fit, and new ones, which must have the same columns."""

from typing import Any

import numpy as np
import xarray as xr

from weightprior import _data
from weightprior.model.bnn import BNN
from weightprior.model.devices import collected

__all__ = ["holds_inputs", "inputs_of", "new_inputs", "new_rows"]


def new_inputs(bnn: BNN, fit: xr.DataTree, x: Any) -> np.ndarray:
    """Return inputs as a float64 array; a data frame's columns must be those of the fit."""
    return _data.inputs(collected(x), _feature_names(bnn, fit))


def new_rows(bnn: BNN, fit: xr.DataTree, x: Any) -> Any:
    """Return inputs as `new_inputs` does; for a table that is not in memory, its reader."""
    return _data.readable(collected(x), _feature_names(bnn, fit))


def _feature_names(bnn: BNN, fit: xr.DataTree) -> tuple[Any, ...]:
    constants = fit["constant_data"]
    names = constants["column" if "column" in constants.dims else "feature"]
    return tuple(names.to_numpy().tolist()) or bnn.network.feature_names


def holds_inputs(fit: xr.DataTree) -> bool:
    """Tell if a fit holds the fitted inputs, and not only their digest."""
    return "x" in fit["constant_data"]


def inputs_of(bnn: BNN, fit: xr.DataTree, x: Any) -> np.ndarray:
    """Return the fitted inputs; those passed as `x` if the fit holds only their digest.

    Raises
    ------
    ValueError
        If `x` is needed and missing, or is not the table that was fitted.
    """
    if holds_inputs(fit):
        return fit["constant_data"]["x"].to_numpy()
    told = fit["constant_data"].attrs
    shape = tuple(np.ravel(told["x_shape"]).tolist())
    expected = f"x: expected the table of shape {shape} that was fitted"
    if x is None:
        raise ValueError(f"{expected}, since the fit keeps only its digest; got None. Pass x.")
    inputs = new_inputs(bnn, fit, x)
    if _data.Stored("x", inputs).read_once(lambda block: None) != told["x_digest"]:
        raise ValueError(f"{expected}; got other numbers. Pass that table, its rows in order.")
    return inputs
