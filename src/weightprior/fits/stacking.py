"""Fits of single priors, made anywhere, laid side by side as the fit of a stacked prior."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior.fits.layout import LEADING_DIMS, named_priors
from weightprior.fits.reading import check_tree
from weightprior.fits.validate import check_groups
from weightprior.model.priors.normal import checked_coords, checked_labels

__all__ = ["join", "stack_fits"]

# Attributes that say what was fitted and how: in one stack they must be equal.
_SAME = ("method", "draws", "exact", "model", "likelihood_elsewhere")


def stack_fits(
    fits: Mapping[Any, xr.DataTree], *, coords: Mapping[str, Any] | None = None
) -> xr.DataTree:
    """Lay fits of single priors side by side, as the fit of the stacked prior: see `unstack_fit`.

    Parameters
    ----------
    fits : mapping of label to DataTree
        At least one; all of one model, method and data, with equal numbers of chains and draws. The
        labels (all strings or all numbers) become the coordinate `prior`.
    coords : mapping of str to sequence of shape (fits,), optional
        Numbers or words that tell the priors apart, as for `stack_priors`.

    Returns
    -------
    DataTree
        A fit with the dim `prior`. Its `seconds` are those of the slowest fit, and its `options`
        those that all have in common. It can be extended if the fits are parts of one call.
        Otherwise the group `chain_state` is left out.

    Raises
    ------
    ValueError, TypeError
        If there is no fit, if one has several priors, or if the fits differ in model, method, data
        or shape. The message says which.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fits = {s: wp.fit_map(bnn, x, x[:, 0], prior=wp.normal_prior(bnn, 0, s)) for s in (0.1, 1)}
    >>> both = wp.stack_fits(fits)
    >>> both["posterior"]["output.weight"].dims
    ('chain', 'draw', 'prior', 'feature', 'output')
    >>> list(wp.unstack_fit(both))
    [0.1, 1.0]
    """
    if not isinstance(fits, Mapping) or not fits:
        raise TypeError(f"fits: expected a dict of label to fit, not empty; got {fits!r}.")
    labels = checked_labels("fits", fits)
    for label, fit in fits.items():
        _check_single(label, fit)
    trees = list(fits.values())
    sites = json.loads(trees[0].attrs["model"])["sites"]
    return join(trees, named_priors(labels, checked_coords(coords or {}, sites, len(trees))))


def join(
    fits: Sequence[xr.DataTree], along: Mapping[str, Any], apart: Collection[str] = ()
) -> xr.DataTree:
    """Lay fits of single priors along `prior`, with given coordinates.

    `apart` names constants that each prior has for itself, even if they are equal.
    """
    labels = along["prior"]
    _check_alike(labels, fits)
    groups = {
        name: _group(name, labels, [fit[name].dataset for fit in fits], along, apart)
        for name in fits[0].children
        if name != "chain_state" or _of_one_run(fits)
    }
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = _attributes(fits)
    return tree


def _check_single(label: Any, fit: Any) -> None:
    try:
        check_tree(fit)
        check_groups(fit)
    except (TypeError, ValueError) as error:
        raise type(error)(f"fits[{label!r}]: {error}") from None
    if missing := {"model", "method", "seconds"} - set(fit.attrs):
        raise ValueError(
            f"fits[{label!r}]: expected the attributes that a fit function writes; got none of "
            f"{_checks.several(sorted(missing))}. Keep the fit's attrs."
        )
    if "prior" in fit["posterior"].dims:
        raise ValueError(
            f"fits[{label!r}]: expected a fit of a single prior; got one of "
            f"{fit['posterior'].sizes['prior']}. Take it apart by unstack_fit."
        )


def _check_alike(labels: Sequence[Any], fits: Sequence[xr.DataTree]) -> None:
    first = fits[0]
    for label, fit in zip(labels, fits, strict=True):
        for name in _SAME:
            if fit.attrs.get(name) != first.attrs.get(name):
                raise ValueError(
                    f"fits[{label!r}]: expected the {name} of fits[{labels[0]!r}], "
                    f"{first.attrs.get(name)}; got {fit.attrs.get(name)}. Stack fits of one model "
                    "by one method."
                )
        if set(fit.children) != set(first.children):
            raise ValueError(
                f"fits[{label!r}]: expected the groups of fits[{labels[0]!r}], "
                f"{sorted(first.children)}; got {sorted(fit.children)}."
            )


def _of_one_run(fits: Sequence[xr.DataTree]) -> bool:
    """Tell if the chains are of one call, so that all of them can be extended together."""
    return len({fit["chain_state"].attrs.get("run") for fit in fits}) == 1


def _group(
    group: str,
    labels: Sequence[Any],
    pieces: Sequence[xr.Dataset],
    along: Mapping[str, Any],
    apart: Collection[str],
) -> xr.Dataset:
    first = pieces[0]
    _check_shapes(group, labels, pieces)
    variables = {}
    for name, one in first.data_vars.items():
        arrays = [piece[name].to_numpy() for piece in pieces]
        if _is_shared(group, str(name), arrays, apart):
            if not all(np.array_equal(array, arrays[0]) for array in arrays):
                raise ValueError(
                    f"fits: expected fits of the same data; got several {name}. Fit them to one x "
                    "and y, with row_weights if they should see different rows."
                )
            variables[name] = one.variable
            continue
        lead = next((i for i, d in enumerate(one.dims) if d not in LEADING_DIMS), one.ndim)
        dims = (*one.dims[:lead], "prior", *one.dims[lead:])
        variables[name] = xr.Variable(dims, np.stack(arrays, lead), one.attrs)
    coords: dict[Any, Any] = dict(first.coords)
    if any("prior" in variable.dims for variable in variables.values()):
        coords |= along
    return xr.Dataset(variables, coords, first.attrs)


def _check_shapes(group: str, labels: Sequence[Any], pieces: Sequence[xr.Dataset]) -> None:
    first = pieces[0]
    for label, piece in zip(labels, pieces, strict=True):
        if set(piece.data_vars) != set(first.data_vars):
            raise ValueError(
                f"fits[{label!r}]: expected the variables of fits[{labels[0]!r}] in {group}, "
                f"{sorted(map(str, first.data_vars))}; got {sorted(map(str, piece.data_vars))}."
            )
        if dict(piece.sizes) != dict(first.sizes):
            raise ValueError(
                f"fits[{label!r}]: expected the sizes of fits[{labels[0]!r}] in {group}, "
                f"{dict(first.sizes)}; got {dict(piece.sizes)}."
            )
        for name, values in first.coords.items():
            if name not in piece.coords or not piece.coords[name].equals(values):
                raise ValueError(
                    f"fits[{label!r}]: expected the {name} of fits[{labels[0]!r}] in {group}; got "
                    "others. Stack fits of the same rows and columns."
                )


def _is_shared(group: str, name: str, arrays: Sequence[np.ndarray], apart: Collection[str]) -> bool:
    """Tell if an array belongs to the data, which all priors share, and not to a prior."""
    if group == "constant_data":
        if name == "row_weights":
            return name not in apart and all(np.array_equal(a, arrays[0]) for a in arrays)
        return not name.startswith("prior_")
    return group == "observed_data"


def _attributes(fits: Sequence[xr.DataTree]) -> dict[str, Any]:
    """Return the attributes that all fits share, with `seconds` and `interrupted` combined."""
    first, *others = [fit.attrs for fit in fits]
    found: dict[Any, Any] = {
        n: v for n, v in first.items() if all(one.get(n) == v for one in others)
    }
    options = [json.loads(fit.attrs.get("options", "{}")) for fit in fits]
    common = {n: v for n, v in options[0].items() if all(one.get(n) == v for one in options)}
    found |= {"options": json.dumps(common), "seconds": max(fit.attrs["seconds"] for fit in fits)}
    if any(fit.attrs.get("interrupted") for fit in fits):
        found["interrupted"] = 1
    return found
