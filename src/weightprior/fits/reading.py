"""The one reader of fits: all functions that use draws get them here, as parts of a fit.

A part of a fit belongs to one prior of a stack: its draws, the model that they are weights of, and
its row weights.
"""

import json
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from weightprior import _checks
from weightprior.fits.layout import SAMPLE_DIMS
from weightprior.fits.validate import check_groups
from weightprior.model.bnn import BNN
from weightprior.model.likelihoods.elsewhere import Elsewhere
from weightprior.model.linearised import linearised
from weightprior.model.priors.normal import NormalPrior

__all__ = [
    "FORMAT",
    "Draws",
    "Part",
    "check_cross_validation",
    "check_fit",
    "check_tree",
    "log_likelihood_of",
    "parts_of",
    "prior_description",
    "same_rows",
    "targets_of",
    "unstack_fit",
]

# Format of the layout of fits. A fit of a later format is refused.
FORMAT = 1


class Draws(dict[str, np.ndarray]):
    """Arrays by site, with the axes chain and draw in front; a plain dict to JAX."""

    @property
    def num_chains(self) -> int:
        """Number of chains."""
        return next(iter(self.values())).shape[0]

    @property
    def num_draws(self) -> int:
        """Number of draws of each chain."""
        return next(iter(self.values())).shape[1]

    def take(self, draws: Any) -> "Draws":
        """Return the draws with these numbers, of every chain."""
        return Draws({name: values[:, draws] for name, values in self.items()})


jax.tree_util.register_pytree_node(
    Draws,
    lambda draws: ([draws[name] for name in sorted(draws)], tuple(sorted(draws))),
    lambda names, values: dict(zip(names, values, strict=True)),  # pyright: ignore
)


class Part(NamedTuple):
    """A fit of one prior, read.

    Attributes
    ----------
    label : object
        Label of the prior in its stack; None if it is the only one.
    model : BNN
        Model of the weights that were drawn: the one that was fitted, or its linearisation.
    weights : Draws
        Every site's draws, in double precision.
    prior : NormalPrior
        The single prior. If it was learned, its means and sds over all values that its
        hyperparameters may have.
    row_weights : array of shape (rows,)
        Number of times each row counted.
    stats : Dataset
        Statistics that the method reports for each draw.
    fit : DataTree
        The whole part, as an ordinary fit of a single prior.
    """

    label: Any
    model: BNN
    weights: Draws
    prior: NormalPrior
    row_weights: np.ndarray
    stats: xr.Dataset
    fit: xr.DataTree


def parts_of(bnn: BNN, fit: Any) -> list[Part]:
    """Read a fit of a model, part by part, or raise if it is none."""
    _checks.not_forked()
    check_fit(bnn, fit)
    check_groups(fit)
    stacked = "prior" in fit["posterior"].dims
    return [
        Part(
            label if stacked else None,
            _model_of(bnn, part),
            _draws_of(bnn, part["posterior"].dataset),
            _prior_of(bnn, part["constant_data"].dataset),
            _row_weights_of(part["constant_data"].dataset),
            part["sample_stats"].dataset,
            part,
        )
        for label, part in unstack_fit(fit).items()
    ]


def _draws_of(bnn: BNN, posterior: xr.Dataset) -> Draws:
    return Draws(
        {
            name: posterior[name].transpose(*SAMPLE_DIMS, ...).to_numpy().astype(np.float64)
            for name in bnn.sites
        }
    )


def _prior_of(bnn: BNN, constants: xr.Dataset) -> NormalPrior:
    return NormalPrior(
        {name: constants[f"prior_loc.{name}"].to_numpy() for name in bnn.sites},
        {name: constants[f"prior_scale.{name}"].to_numpy() for name in bnn.sites},
    )


def _row_weights_of(constants: xr.Dataset) -> np.ndarray:
    if "row_weights" not in constants:
        return np.ones(constants.sizes["obs_id"])
    return constants["row_weights"].to_numpy()


def _model_of(bnn: BNN, part: xr.DataTree) -> BNN:
    if part.attrs.get("likelihood_elsewhere"):
        return replace(bnn, likelihood=Elsewhere(bnn.likelihood))
    if "linearised_at" not in part.children:
        return bnn
    center = part["linearised_at"].dataset
    return linearised(bnn, {name: center[name].to_numpy() for name in bnn.network.sites})


def unstack_fit(fit: xr.DataTree) -> dict[Any, xr.DataTree]:
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

    Raises
    ------
    TypeError
        If `fit` is something else.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=1.0))
    >>> priors = {f"sd {s}": wp.normal_prior(bnn, scale=s) for s in (0.1, 1.0)}
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_map(bnn, x, x[:, 0], prior=wp.stack_priors(priors))
    >>> list(wp.unstack_fit(fit))
    ['sd 0.1', 'sd 1.0']
    """
    check_tree(fit)
    posterior = fit["posterior"].dataset
    if "prior" not in posterior.dims:
        return {"fit": fit}
    labels = posterior["prior"].to_numpy().tolist()
    return {label: _single(fit, index) for index, label in enumerate(labels)}


def _single(fit: xr.DataTree, index: int) -> xr.DataTree:
    groups = {
        name: group.dataset.isel(prior=index, drop=True) if "prior" in group.dims else group.dataset
        for name, group in fit.children.items()
    }
    part = xr.DataTree.from_dict(groups)
    part.attrs = dict(fit.attrs)
    return part


def check_tree(fit: Any) -> None:
    """Raise if `fit` is not a DataTree as a fit function returns."""
    is_tree = isinstance(fit, xr.DataTree)
    if not is_tree or "posterior" not in fit.children:
        found = "one without a group `posterior`" if is_tree else type(fit).__name__
        raise TypeError(f"fit: expected the DataTree that a fit function returns; got {found}.")
    if (found := int(fit.attrs.get("format", FORMAT))) > FORMAT:
        raise ValueError(
            f"fit: expected one of format {FORMAT} at most, which this version of weightprior "
            f"reads; got format {found}. Upgrade weightprior."
        )


def check_fit(bnn: BNN, fit: Any) -> None:
    """Raise if `fit` is not a fit of this model."""
    _checks.model(bnn)
    check_tree(fit)
    posterior = fit["posterior"].dataset
    own = json.loads(fit.attrs.get("model", "{}")).get("sites", bnn.sites)
    expected = {name: site.shape for name, site in bnn.sites.items()}
    found = {
        name: posterior[name]
        .isel({d: 0 for d in (*SAMPLE_DIMS, "prior") if d in posterior[name].dims})
        .shape
        for name in own
        if name in posterior
    }
    if found != expected:
        raise ValueError(
            f"fit: expected the sites and shapes of this model, {expected}; got {found}. "
            "Was it fitted with another network or likelihood?"
        )
    _check_model(bnn, fit)


def check_cross_validation(bnn: BNN, found: xr.Dataset) -> None:
    """Raise if a Dataset is not a cross-validation of this model."""
    _checks.model(bnn)
    if found.attrs.get("function") != "cross_validate":
        raise TypeError("fit: expected a fit, or what cross_validate returns; got a Dataset.")
    _check_model(bnn, found)


def _check_model(bnn: BNN, fit: Any) -> None:
    written, own = json.loads(fit.attrs.get("model", "null")), bnn.describe()
    if written is not None and written != own:
        different = [name for name in own if written.get(name) != own[name]]
        expected, got = ({name: told.get(name) for name in different} for told in (own, written))
        raise ValueError(
            f"fit: expected one of this model, {expected}; got one of {got}. "
            "Pass the model that was fitted."
        )


def prior_description(fit: xr.DataTree) -> dict[str, Any]:
    """Return the description of a fit's prior besides its numbers: see `Prior.describe`."""
    return json.loads(fit.attrs.get("prior", "{}"))


def targets_of(fit: xr.DataTree) -> np.ndarray:
    """Return the fitted targets, as numbers that compiled programs take."""
    return fit["observed_data"]["y"].to_numpy().astype(np.float64)


def same_rows(part: Part, inputs: np.ndarray) -> np.ndarray:
    """Return how often each row counted in a fit, or raise if the number of rows differs."""
    if len(part.row_weights) != len(inputs) and "row_weights" in part.fit["constant_data"]:
        raise ValueError(
            f"x: expected the {len(part.row_weights)} rows that were fitted with row_weights; "
            f"got {len(inputs)}."
        )
    return part.row_weights if len(part.row_weights) == len(inputs) else np.ones(len(inputs))


def log_likelihood_of(fit: xr.DataTree) -> xr.DataArray:
    """Return the log likelihood of every row under every draw; raise if it was left out."""
    if "log_likelihood" not in fit.children:
        raise ValueError(
            "fit: expected the group `log_likelihood`; got a fit made with log_likelihood=False. "
            "Fit with log_likelihood=True; for held-out rows score(bnn, fit, x, y) needs none."
        )
    return fit["log_likelihood"].dataset["y"]
