"""Draws as plain arrays: read from a fit, evaluated, and given names again."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior.linearised import Linearised
from weightprior.model import BNN, Prior
from weightprior.priors import NormalPrior

__all__ = [
    "SAMPLE_DIMS",
    "asymmetries",
    "check_cross_validation",
    "check_fit",
    "check_tree",
    "describe",
    "double",
    "draws_of",
    "evaluate",
    "lay_out",
    "lengths",
    "log_likelihood_of",
    "models_of",
    "new_inputs",
    "prior_arrays",
    "prior_dims",
    "priors_of",
    "row_weights_of",
    "starts_of",
    "target_dims",
]

SAMPLE_DIMS = ("chain", "draw")
# Numbers that draws evaluated at once may hold in a layer: enough to keep the cores busy, few
# enough to stay in their cache, which is twice as quick as what does not, and to bound memory.
_NUMBERS = 2**18
# What latents above the weights are called, before the name of their group or site.
_ABOVE = ("center", "log_scale", "local_scale")
_MOST_DRAWS = 64


def check_tree(fit: Any) -> None:
    """Raise where `fit` is nothing that a fit function returns."""
    is_tree = isinstance(fit, xr.DataTree)
    if not is_tree or "posterior" not in fit.children:
        found = "one without a group `posterior`" if is_tree else type(fit).__name__
        raise TypeError(f"fit: expected the DataTree that a fit function returns; got {found}.")


def check_fit(bnn: BNN, fit: Any) -> xr.DataTree:
    """Return `fit` where it is one of this model's; raise otherwise."""
    _checks.model(bnn)
    check_tree(fit)
    posterior = fit["posterior"].dataset
    expected = {name: site.shape for name, site in bnn.sites.items()}
    found = {
        str(name): values.isel({d: 0 for d in (*SAMPLE_DIMS, "prior") if d in values.dims}).shape
        for name, values in posterior.data_vars.items()
        if name != "noise" and str(name).split(".")[0] not in _ABOVE
    }
    if found != expected:
        raise ValueError(
            f"fit: expected the sites and shapes of this model, {expected}; got {found}. "
            "Was it fitted with another network or likelihood?"
        )
    _check_model(bnn, fit)
    return fit


def check_cross_validation(bnn: BNN, found: xr.Dataset) -> xr.Dataset:
    """Return a Dataset where it is a cross-validation of this model; raise otherwise."""
    _checks.model(bnn)
    if found.attrs.get("method") != "cross_validate":
        raise TypeError("fit: expected a fit, or what cross_validate returns; got a Dataset.")
    _check_model(bnn, found)
    return found


def _check_model(bnn: BNN, fit: Any) -> None:
    written = json.loads(fit.attrs.get("model", "null"))
    if written is not None and written != describe(bnn):
        raise ValueError(
            f"fit: expected one of this model, {describe(bnn)}; got one of {written}. "
            "Pass the model that was fitted."
        )


def describe(bnn: BNN) -> dict[str, Any]:
    """What a model is, beside its sites: written into its fits, to recognise them by."""
    activations = bnn.network.activations
    return {
        "activations": [
            a if isinstance(a, str) else getattr(a, "__name__", type(a).__name__)
            for a in activations
        ],
        "likelihood": repr(bnn.likelihood),
    }


def new_inputs(bnn: BNN, fit: xr.DataTree, x: Any) -> np.ndarray:
    """Return inputs as a float64 array; a data frame's columns have to be those of the fit."""
    names = fit["constant_data"]["feature"].to_numpy().tolist()
    return _checks.rows(x, tuple(names) or bnn.network.feature_names)


def draws_of(bnn: BNN, fit: xr.DataTree) -> list[dict[str, np.ndarray]]:
    """Every site's draws, (chain, draw, ...), in double precision; a dict per part of the prior."""
    posterior = check_fit(bnn, fit)["posterior"].dataset
    return [
        double({name: part[name].transpose(*SAMPLE_DIMS, ...) for name in bnn.sites})
        for part in _parts(posterior)
    ]


def starts_of(bnn: BNN, fit: xr.DataTree) -> list[dict[str, np.ndarray]]:
    """Points to start from, one axis in front; a dict per part of the prior.

    They are a MAP's restarts, best first, or the last draw of every chain.
    """
    if "restarts" not in check_fit(bnn, fit).children:
        return [{name: w[:, -1] for name, w in part.items()} for part in draws_of(bnn, fit)]
    parts = _parts(fit["restarts"].dataset)
    return [double({name: part[name] for name in bnn.sites}) for part in parts]


def prior_arrays(bnn: BNN, prior: Prior) -> dict[str, np.ndarray]:
    """Centres and scales of a single prior, under the names that they have in a fit."""
    loc, scale = prior.loc, prior.scale
    pairs = {name: {"loc": loc[name], "scale": scale[name]} for name in bnn.sites}
    return {
        f"prior_{part}.{name}": values for name, p in pairs.items() for part, values in p.items()
    }


def prior_dims(bnn: BNN) -> dict[str, tuple[str, ...]]:
    """Dims of what `prior_arrays` returns."""
    sites = bnn.sites.items()
    return {f"prior_{part}.{name}": site.dims for name, site in sites for part in ("loc", "scale")}


def priors_of(bnn: BNN, fit: xr.DataTree) -> list[NormalPrior]:
    """The single priors of a fit, in the order of its parts.

    Of one that was learned they have the means and sds, over all that its latents may be.
    """
    return [
        NormalPrior(
            {name: part[f"prior_loc.{name}"].to_numpy() for name in bnn.sites},
            {name: part[f"prior_scale.{name}"].to_numpy() for name in bnn.sites},
        )
        for part in _parts(fit["constant_data"].dataset)
    ]


def asymmetries(fit: xr.DataTree) -> dict[str, set[str]]:
    """Sites with a centre that was learned, with a scale for every weight, and flat nowhere.

    In the words of `symmetry.freedoms`, to which the prior's numbers do not tell.
    """
    told = json.loads(fit.attrs.get("hierarchy", "null"))
    if told is None:
        return {"centered": set(), "distinct": set(), "proper": set()}
    centered = {name for group in told["center"] for name in told["groups"][group]}
    grouped = {name for names in told["groups"].values() for name in names}
    return {"centered": centered, "distinct": set(told["local"]), "proper": grouped}


def row_weights_of(fit: xr.DataTree, num_obs: int) -> list[np.ndarray]:
    """How often each row counted in every part of a fit; `num_obs` rows are expected."""
    parts = _parts(fit["constant_data"].dataset)
    if "row_weights" not in parts[0]:
        return [np.ones(num_obs) for _ in parts]
    counts = [part["row_weights"].to_numpy() for part in parts]
    if len(counts[0]) != num_obs:
        raise ValueError(
            f"x: expected the {len(counts[0])} rows that were fitted with row_weights; "
            f"got {num_obs}."
        )
    return counts


def log_likelihood_of(fit: xr.DataTree) -> xr.DataArray:
    """Log likelihood of every row under every draw of a fit; raise where it was left out."""
    if "log_likelihood" not in fit.children:
        raise ValueError(
            "fit: expected the group `log_likelihood`; got a fit made with log_likelihood=False. "
            "Fit with log_likelihood=True; for held-out rows score(bnn, fit, x, y) needs none."
        )
    return fit["log_likelihood"].dataset["y"]


def models_of(bnn: BNN, fit: xr.DataTree) -> list[BNN]:
    """What each part's draws are weights of: the model, or its linearisation at the MAP."""
    options = json.loads(fit.attrs.get("options", "{}"))
    if fit.attrs.get("method") != "laplace" or options["curvature"] != "ggn":
        return [bnn] * fit["posterior"].sizes.get("prior", 1)
    modes = [{name: w[0] for name, w in starts.items()} for starts in starts_of(bnn, fit)]
    return [Linearised(bnn.network, bnn.likelihood, mode) for mode in modes]


def double(weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Weights in double precision."""
    return {name: np.asarray(values, dtype=np.float64) for name, values in weights.items()}


def lengths(
    bnn: BNN, weights: Mapping[str, np.ndarray], prior: NormalPrior
) -> dict[str, np.ndarray | float]:
    """How long weights and biases are, mean over draws.

    `norm` is their length, and `distance` that from the prior's centre, of those where the prior
    is not flat and has one (NaN where there are none).
    """
    proper = {name: np.isfinite(prior.scale[name]) for name in bnn.network.sites}
    apart = {n: np.where(proper[n], weights[n] - prior.loc[n], 0.0) for n in proper}
    any_center = any(values.any() for values in proper.values())
    return {
        "norm": _length(weights[name] for name in proper),
        "distance": _length(apart.values()) if any_center else np.nan,
    }


def _length(arrays: Iterable[np.ndarray]) -> float:
    squares = [np.square(array).sum(tuple(range(2, array.ndim))) for array in arrays]
    return float(np.sqrt(sum(squares)).mean())


def _parts(dataset: xr.Dataset) -> list[xr.Dataset]:
    return [dataset.isel(prior=i) for i in range(dataset.sizes.get("prior", 0))] or [dataset]


def evaluate(function, bnn: BNN, draws: Any, *args: Any, at_once: int | None = None) -> Any:
    """Compute ``function(bnn, draw, *args)`` for every draw, in double precision.

    Parameters
    ----------
    function : callable
        A function of a module, so that it compiles once.
    bnn : BNN
        The model.
    draws : pytree of arrays
        With the axes chain and draw in front.
    *args : pytree of arrays
        What the draws have in common.
    at_once : int, optional
        Draws that are held in memory together. By default as many as the rows in `args` allow.

    Returns
    -------
    pytree of numpy arrays
        With the axes chain and draw in front.
    """
    lead = np.shape(jax.tree.leaves(draws)[0])[:2]
    at_once = at_once or _draws_at_once(bnn, args)
    with jax.enable_x64(True):
        flat = jax.tree.map(lambda a: a.reshape((-1, *a.shape[2:])), draws)
        out = jax.device_get(_evaluate(function, at_once, bnn, flat, args))
    return jax.tree.map(lambda a: np.asarray(a).reshape((*lead, *a.shape[1:])), out)


def _draws_at_once(bnn: BNN, args: Any) -> int:
    rows = max((np.shape(leaf)[0] for leaf in jax.tree.leaves(args) if np.ndim(leaf)), default=1)
    width = max(*bnn.network.hidden, bnn.network.num_outputs, bnn.network.num_features)
    return int(np.clip(_NUMBERS // (max(rows, 1) * width), 1, _MOST_DRAWS))


def _evaluate_all(function, at_once, bnn, draws, args):
    # Batches of one size, filled up with the last draw: a remainder would be compiled, too.
    count = jax.tree.leaves(draws)[0].shape[0]
    num_batches = -(-count // at_once)
    size = -(-count // num_batches)
    chosen = np.minimum(np.arange(num_batches * size), count - 1).reshape(num_batches, size)
    batches = jax.tree.map(lambda a: a[chosen], draws)
    out = jax.lax.map(jax.vmap(lambda draw: function(bnn, draw, *args)), batches)
    return jax.tree.map(lambda a: a.reshape((chosen.size, *a.shape[2:]))[:count], out)


_evaluate = jax.jit(_evaluate_all, static_argnums=(0, 1))


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
        Coordinates of all dims; those that no variable has are left out.
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
    named = {dim: coords[dim] if dim in coords else np.arange(size) for dim, size in sizes.items()}
    return xr.Dataset(variables, named)


def target_dims(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[str, ...]]:
    """Dims, behind chain and draw, of arrays that have a value per row and perhaps per output."""
    return {name: ("obs_id", "output")[: array.ndim - 2] for name, array in arrays.items()}
