"""The inputs of a fit, and new ones that have to be like them."""

from typing import Any

import numpy as np
import xarray as xr

from weightprior import _data
from weightprior.model.bnn import BNN

__all__ = ["holds_inputs", "inputs_of", "new_inputs", "new_rows"]


def new_inputs(bnn: BNN, fit: xr.DataTree, x: Any) -> np.ndarray:
    """Return inputs as a float64 array; a data frame's columns have to be those of the fit."""
    return _data.inputs(x, _feature_names(bnn, fit))


def new_rows(bnn: BNN, fit: xr.DataTree, x: Any) -> Any:
    """Return inputs as `new_inputs` does, or, of a table that stays elsewhere, its reader."""
    return _data.readable(x, _feature_names(bnn, fit))


def _feature_names(bnn: BNN, fit: xr.DataTree) -> tuple[Any, ...]:
    constants = fit["constant_data"]
    names = constants["column" if "column" in constants.dims else "feature"]
    return tuple(names.to_numpy().tolist()) or bnn.network.feature_names


def holds_inputs(fit: xr.DataTree) -> bool:
    """Tell if a fit holds the inputs that were fitted, and not their digest alone."""
    return "x" in fit["constant_data"]


def inputs_of(bnn: BNN, fit: xr.DataTree, x: Any) -> np.ndarray:
    """Return the inputs that were fitted; those passed as `x` where a fit has their digest alone.

    Raises
    ------
    ValueError
        If there are none, or others than those that were fitted.
    """
    if holds_inputs(fit):
        return fit["constant_data"]["x"].to_numpy()
    told = fit["constant_data"].attrs
    shape = tuple(np.ravel(told["x_shape"]).tolist())
    expected = f"x: expected the table of shape {shape} that was fitted"
    if x is None:
        raise ValueError(f"{expected}, of which the fit keeps a digest alone; got None. Pass x.")
    inputs = new_inputs(bnn, fit, x)
    if _data.Stored("x", inputs).read_once(lambda block: None) != told["x_digest"]:
        raise ValueError(f"{expected}; got other numbers. Pass that table, its rows in order.")
    return inputs
