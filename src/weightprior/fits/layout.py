"""Layout of plain arrays as xarray's, with named axes and coordinates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from weightprior._data import index_of
from weightprior.model.priors.base import Prior

__all__ = [
    "LEADING_DIMS",
    "SAMPLE_DIMS",
    "lay_out",
    "lay_out_targets",
    "named_outputs",
    "named_priors",
    "prediction_coords",
    "prior_arrays",
    "prior_coords",
    "prior_dims",
    "row_coords",
    "site_dims",
]

SAMPLE_DIMS = ("chain", "draw")
# Axes that come before `prior`, if a variable has them.
LEADING_DIMS = (*SAMPLE_DIMS, "restart", "temperature")


def lay_out(
    pieces: Sequence[Mapping[str, Any]],
    lead: tuple[str, ...],
    dims: Mapping[str, tuple[str, ...]],
    coords: Mapping[Any, Any],
) -> xr.Dataset:
    """Name the axes of arrays; the pieces, one per part of a stacked prior, are laid along `prior`.

    Parameters
    ----------
    pieces : sequence of dict of str to array
        One for a single prior, or as many as ``coords["prior"]`` has labels.
    lead : tuple of str
        Dims that every array has in front; `prior` comes after them.
    dims : mapping of str to tuple of str
        The dims behind those, by variable.
    coords : mapping of str to array
        Coordinates of all dims, and further ones along them; those of no variable are left out.
    """
    variables = {}
    for name in pieces[0]:
        arrays = [np.asarray(piece[name]) for piece in pieces]
        behind = dims[name] if arrays[0].ndim > len(lead) else ()
        if "prior" in coords:
            variables[name] = ((*lead, "prior", *behind), np.stack(arrays, len(lead)))
        else:
            variables[name] = ((*lead, *behind), arrays[0])
    sizes = {
        dim: size
        for names, array in variables.values()
        for dim, size in zip(names, array.shape, strict=True)
    }
    named = {
        dim: coords[dim] if dim in coords else pd.RangeIndex(size) for dim, size in sizes.items()
    }
    if "prior" in sizes:
        named |= {n: v for n, v in coords.items() if getattr(v, "dims", ()) == ("prior",)}
    rows = coords.get("row")
    if rows is not None and "obs_id" in sizes:
        named["row"] = ("obs_id", np.asarray(rows))
    return xr.Dataset(variables, named)


def named_outputs(coords: Mapping[Any, Any], names: Sequence[Any] | None) -> dict[Any, Any]:
    """Return coordinates with these names along `output`, or without names."""
    others = {name: values for name, values in coords.items() if name != "output"}
    return others if names is None else others | {"output": list(names)}


def prediction_coords(bnn: Any, fit: xr.DataTree, x: Any) -> dict[Any, Any]:
    """Return coordinates of predictions: the fit's, its targets' names and the new rows."""
    observed = fit["observed_data"].dataset
    columns = observed["output"].to_numpy().tolist() if "output" in observed.dims else None
    names = bnn.likelihood.target_names(columns, bnn.network.num_outputs)
    return {**named_outputs(fit["posterior"].coords, names), **row_coords(x)}


def lay_out_targets(
    bnn: Any,
    pieces: Sequence[Mapping[str, Any]],
    lead: tuple[str, ...],
    coords: Mapping[Any, Any],
) -> xr.Dataset:
    """Lay out targets `y`, and other values per row and perhaps per output.

    Classes and counts are integers. The labels of classes are kept beside them, as text.
    """
    likelihood = bnn.likelihood
    behind = ("obs_id", "outcome" if likelihood.columns else "output")
    dims = {name: behind[: np.ndim(array) - len(lead)] for name, array in pieces[0].items()}
    if likelihood.discrete:
        pieces = [{**piece, "y": np.asarray(piece["y"]).astype(np.int64)} for piece in pieces]
    found = lay_out(pieces, lead, dims, coords)
    if likelihood.labels is not None:
        found["y"].attrs["classes"] = [str(label) for label in likelihood.labels]
    return found


def site_dims(bnn: Any, prior: Prior) -> dict[str, tuple[str, ...]]:
    """Return the dims of all latents of a model and its prior, and of values derived from them."""
    dims = {name: site.dims for name, site in {**prior.sites, **bnn.sites}.items()}
    return dims | {latent.derived: latent.dims for latent in bnn.latents.values() if latent.derived}


def prior_arrays(bnn: Any, prior: Prior) -> dict[str, np.ndarray]:
    """Return the centres and scales of a single prior, by their names in a fit."""
    loc, scale = prior.loc, prior.scale
    pairs = {name: {"loc": loc[name], "scale": scale[name]} for name in bnn.sites}
    return {
        f"prior_{part}.{name}": values for name, p in pairs.items() for part, values in p.items()
    }


def prior_dims(bnn: Any) -> dict[str, tuple[str, ...]]:
    """Return the dims of the arrays that `prior_arrays` returns."""
    sites = bnn.sites.items()
    return {f"prior_{part}.{name}": site.dims for name, site in sites for part in ("loc", "scale")}


def prior_coords(prior: Prior) -> dict[str, Any]:
    """Return the coordinates of a stacked prior: its labels, and others that identify its parts."""
    return {} if prior.labels is None else named_priors(prior.labels, prior.coords)


def named_priors(
    labels: Sequence[Any], coords: Sequence[tuple[str, Sequence[Any]]]
) -> dict[str, Any]:
    """Return coordinates along `prior`: labels, and further numbers or words by name."""
    along = {name: xr.DataArray(list(values), dims="prior") for name, values in coords}
    return {"prior": list(labels), **along}


def row_coords(x: Any, kept: np.ndarray | None = None) -> dict[str, Any]:
    """Return coordinates of the rows of a data frame: its index, if netCDF can hold it.

    Unique integers, strings and dates without a time zone become `obs_id`. The text of any other
    index is kept in `row`, and `obs_id` counts. If only some rows are kept, `obs_id` tells which.
    """
    found = _coords_of_rows(x)
    if kept is None or kept.all():
        return found
    return {name: v[kept] for name, v in ({"obs_id": np.arange(len(kept))} | found).items()}


def _coords_of_rows(x: Any) -> dict[str, np.ndarray]:
    index = index_of(x)
    if index is None:
        return {}
    values = np.asarray(index)
    if values.ndim != 1:
        return {}
    if np.array_equal(values, np.arange(len(values))):
        return {}
    simple = getattr(index, "nlevels", 1) == 1 and getattr(index, "is_unique", False)
    if simple and (values.dtype.kind in "iu" or _are_dates(values)):
        return {"obs_id": values}
    texts = [str(value) for value in index]
    if simple and all(isinstance(value, str) for value in index):
        return {"obs_id": np.array(texts, dtype=object)}
    return {"row": np.array(texts, dtype=object)}


def _are_dates(values: np.ndarray) -> bool:
    return values.dtype.kind == "M" and not np.isnat(values).any()
