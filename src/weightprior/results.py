"""The one place where fits become DataTrees, in ArviZ's schema, and where they are checked.

Everything derived from draws (log densities, the noise) is computed here, in double precision, so
that every method reports the same quantities.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior.draws import (
    SAMPLE_DIMS,
    check_tree,
    describe,
    double,
    evaluate,
    lay_out,
    prior_arrays,
    prior_dims,
    target_dims,
)
from weightprior.hierarchy import HierarchicalPrior
from weightprior.model import BNN, Prior

__all__ = ["ChainState", "Draws", "build", "build_prior", "split", "validate"]

_GROUPS = ("posterior", "sample_stats", "log_prior", "observed_data", "constant_data")


@dataclass(frozen=True)
class ChainState:
    """What Markov chains need to go on, and what decides what they draw.

    Attributes
    ----------
    chains : list of dict of str to array
        Per part of the prior, what the chains hold, with one axis, chain, in front.
    run, parts : dict, list of dict
        What decides the draws of all parts, and of each; stored as JSON.
    """

    chains: list[dict[str, np.ndarray]]
    run: dict[str, Any]
    parts: list[dict[str, Any]]


@dataclass(frozen=True)
class Draws:
    """What a method brings home: plain arrays, one set per part of the prior.

    Attributes
    ----------
    weights : list of dict of str to array
        Per part of the prior, every site with two axes in front: chain and draw.
    stats : list of dict of str to array
        Per part of the prior, sampler statistics of shape (chain, draw).
    groups : dict of str to (tuple of str, list of dict), optional
        Further groups, such as the restarts of a MAP: the axes that all of their arrays have in
        front, and the arrays per part of the prior.
    chain_state : ChainState, optional
        What the draws can be extended from.
    models : list of BNN, optional
        Per part of the prior, what the draws are weights of; by default the model that was fitted.
    """

    weights: list[dict[str, np.ndarray]]
    stats: list[dict[str, np.ndarray]]
    groups: dict[str, tuple[tuple[str, ...], list[dict[str, Any]]]] = field(default_factory=dict)
    chain_state: ChainState | None = None
    models: list[BNN] | None = None


def build(
    bnn: BNN,
    x: Any,
    y: Any,
    prior: Prior,
    draws: Draws,
    *,
    method: str,
    exact: bool,
    seconds: float,
    options: Mapping[str, Any],
    row_weights: Any = None,
    log_likelihood: bool = True,
) -> xr.DataTree:
    """Lay out a fit as a DataTree.

    Parameters
    ----------
    bnn, x, y, prior
        What was fitted, as the user passed it; `x` may be a data frame, whose column names become
        the coordinate `feature`.
    draws : Draws
        What came out.
    method : str
        Name of the method.
    exact : bool
        Whether its draws converge to the posterior.
    seconds : float
        Wall-clock time of the fit.
    options : mapping
        The method's options, stored as JSON.
    row_weights : array of shape (rows,) or (priors, rows), optional
        How often each row counted.
    log_likelihood : bool
        Whether to store that of every row under every draw.
    """
    inputs, targets = bnn.check_data(x, y)
    coords = _coords(bnn, x, prior)
    dims = {name: site.dims for name, site in {**prior.sites, **bnn.sites}.items()}
    dims |= {"noise": ("output",), "y": ("obs_id",)}
    counts = np.ones(len(inputs)) if row_weights is None else np.asarray(row_weights, float)
    parts = prior.parts()
    of_draw = _densities_of_draw if log_likelihood else _joint_of_draw
    densities = [
        evaluate(of_draw, model, double(weights), inputs, targets, part, part_counts)
        for model, weights, part, part_counts in zip(
            draws.models or [bnn] * len(parts),
            draws.weights,
            parts,
            np.broadcast_to(counts, (len(parts), len(inputs))),
            strict=True,
        )
    ]

    def merged(pieces, key):
        return [piece | d[key] for piece, d in zip(pieces, densities, strict=True)]

    def along_draws(pieces):
        return lay_out(pieces, SAMPLE_DIMS, dims, coords)

    groups = {
        "posterior": along_draws(merged(draws.weights, "derived")),
        "sample_stats": along_draws(merged(draws.stats, "lp")),
        "log_prior": along_draws([d["log_prior"] for d in densities]),
    }
    if log_likelihood:
        groups["log_likelihood"] = along_draws([d["log_likelihood"] for d in densities])
    for group, (axes, pieces) in draws.groups.items():
        groups[group] = lay_out(pieces, axes, dims, coords)
    observed = {"y": ("obs_id", "output")[: targets.ndim]}
    groups["observed_data"] = lay_out([{"y": targets}], (), observed, {})
    groups["constant_data"] = _constants(bnn, inputs, prior, coords)
    if row_weights is not None:
        names = ("prior", "obs_id")[-counts.ndim :]
        groups["constant_data"]["row_weights"] = (names, counts)
    if draws.chain_state is not None:
        groups["chain_state"] = _chain_state(draws.chain_state, coords)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {
        "method": method,
        "exact": int(exact),  # netCDF has no booleans among attributes
        "seconds": seconds,
        "options": json.dumps(dict(options)),
        **_origin(bnn),
    }
    if isinstance(prior, HierarchicalPrior):
        tree.attrs["hierarchy"] = prior.describe()
    validate(tree)
    return tree


def build_prior(
    bnn: BNN, x: Any, prior: Prior, pieces: list[dict[str, dict[str, np.ndarray]]]
) -> xr.DataTree:
    """Lay out draws from a prior: per part of it, the groups `prior` and `prior_predictive`."""
    coords = _coords(bnn, x, prior)
    dims = {name: site.dims for name, site in {**prior.sites, **bnn.sites}.items()}
    dims |= {"noise": ("output",), **target_dims(pieces[0]["prior_predictive"])}
    groups = {
        group: lay_out([piece[group] for piece in pieces], SAMPLE_DIMS, dims, coords)
        for group in ("prior", "prior_predictive")
    }
    inputs = _checks.rows(x, bnn.network.feature_names)
    groups["constant_data"] = _constants(bnn, inputs, prior, coords)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = _origin(bnn)
    return tree


def _joint_of_draw(bnn: BNN, weights, x, y, prior, row_weights) -> dict[str, Any]:
    return {
        "lp": {"lp": bnn.log_joint(weights, x, y, prior, row_weights)},
        "log_prior": bnn.log_prior_by_site(weights, prior),
        "derived": bnn.likelihood.derived(weights),
    }


def _densities_of_draw(bnn: BNN, weights, x, y, prior, row_weights) -> dict[str, Any]:
    terms = {"y": bnn.pointwise_log_likelihood(weights, x, y)}
    joint = _joint_of_draw(bnn, weights, x, y, prior, row_weights)
    return {"log_likelihood": terms, **joint}


def _chain_state(state: ChainState, coords) -> xr.Dataset:
    first = state.chains[0].items()
    dims = {name: tuple(f"{name}_dim_{i}" for i in range(a.ndim - 1)) for name, a in first}
    arrays = lay_out(state.chains, ("chain",), dims, coords)
    arrays = arrays.drop_vars([dim for names in dims.values() for dim in names])
    # By part, so that a part taken out of a stacked fit is what the fit of it alone would be.
    texts = lay_out([{"part": json.dumps(part)} for part in state.parts], (), {}, coords)
    return xr.merge([arrays, texts]).assign_attrs(run=json.dumps(state.run))


def _coords(bnn: BNN, x: Any, prior: Prior) -> dict[str, Any]:
    """Coordinates that are not simply counted."""
    coords: dict[str, Any] = {"feature": list(_checks.column_names(x) or bnn.network.feature_names)}
    return coords if prior.labels is None else coords | {"prior": list(prior.labels)}


def _constants(bnn: BNN, x: np.ndarray, prior: Prior, coords) -> xr.Dataset:
    """Inputs and prior."""
    inputs = lay_out(
        [{"x": x}],
        (),
        {"x": ("obs_id", "feature")},
        {k: v for k, v in coords.items() if k != "prior"},
    )
    pieces = [prior_arrays(bnn, part) for part in prior.parts()]
    return xr.merge([inputs, lay_out(pieces, (), prior_dims(bnn), coords)])


def _origin(bnn: BNN) -> dict[str, str]:
    """What was fitted, and by which software."""
    return {
        "model": json.dumps(describe(bnn)),
        "inference_library": "weightprior",
        "inference_library_version": version("weightprior"),
        "versions": json.dumps({name: version(name) for name in ("jax", "numpyro", "arviz")}),
    }


def validate(fit: xr.DataTree) -> None:
    """Raise where a fit lacks a group, or holds NaN or infinity where there must be a number.

    Raises
    ------
    ValueError
        Naming the group (of which `log_likelihood` may be missing) or the variable.
    """
    missing = [group for group in _GROUPS if group not in fit.children]
    if missing:
        raise ValueError(
            f"fit: expected the groups {_checks.several(_GROUPS)}; got none of the name "
            f"{_checks.several(missing)}."
        )
    for group in [name for name in (*_GROUPS, "log_likelihood") if name in fit.children]:
        for name, values in fit[group].dataset.data_vars.items():
            array = values.to_numpy()
            flat = str(name).startswith("prior_scale.") & np.isposinf(array)
            bad = ~np.isfinite(array) & ~flat
            if bad.any():
                raise ValueError(
                    f"fit: expected finite numbers; got {array[bad][0]} in {group}[{name!r}]. "
                    "Are the inputs or the prior's scales so large that the network's outputs "
                    "overflow?"
                )


def split(fit: xr.DataTree) -> dict[Any, xr.DataTree]:
    """Take a fit of a stacked prior apart.

    Parameters
    ----------
    fit : DataTree
        Any fit.

    Returns
    -------
    dict of label to DataTree
        One ordinary fit per prior, for ArviZ's functions; a fit of a single prior comes back under
        the label ``"fit"``. Each carries the `seconds` of the whole.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> priors = {f"sd {s}": wp.normal_prior(bnn, scale=s) for s in (0.1, 1.0)}
    >>> x, y = np.arange(5.0)[:, None], np.arange(5.0)
    >>> fit = wp.fit_map(bnn, x, y, prior=wp.stack_priors(priors))
    >>> list(wp.split(fit))
    ['sd 0.1', 'sd 1.0']
    """
    check_tree(fit)
    posterior = fit["posterior"].dataset
    if "prior" not in posterior.dims:
        return {"fit": fit}
    labels = posterior["prior"].to_numpy().tolist()
    return {label: _part(fit, index) for index, label in enumerate(labels)}


def _part(fit: xr.DataTree, index: int) -> xr.DataTree:
    groups = {
        name: group.dataset.isel(prior=index, drop=True) if "prior" in group.dims else group.dataset
        for name, group in fit.children.items()
    }
    part = xr.DataTree.from_dict(groups)
    part.attrs = dict(fit.attrs)
    return part
