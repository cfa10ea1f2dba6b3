"""Posterior means of a fit, read without importing xarray."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from weightprior.model.sites import Site

__all__ = ["posterior_means"]


def posterior_means(
    argument: str, fit: Any, sites: Mapping[str, Site]
) -> dict[str, np.ndarray] | None:
    """Return the posterior mean of every site if `fit` is a fit; read without importing xarray.

    `sites` are those of the model at hand; the fit also lists the weights of its own model.
    """
    if not hasattr(fit, "children"):
        return None
    if "posterior" not in fit.children:
        raise ValueError(
            f"{argument}: expected a fit with a `posterior` group; got a DataTree without one."
        )
    posterior = fit["posterior"].dataset
    if "prior" in posterior.dims:
        raise ValueError(
            f"{argument}: expected the fit of a single prior; got a stacked one. "
            "Choose a part of it: weightprior.unstack_fit(fit)[label]."
        )
    if absent := [dim for dim in ("chain", "draw") if dim not in posterior.dims]:
        raise ValueError(
            f"{argument}: expected a fit with the axes chain and draw; got one without "
            f"{absent[0]!r}. Keep it: fit.isel({absent[0]}=[0])."
        )
    told = _told(fit)
    # Latents of another likelihood are dropped; weights must match.
    foreign = {*told.get("latents", ())} - {*sites}
    own = {*sites, *told.get("sites", {})} - foreign
    means = posterior.mean(("chain", "draw"))
    return {str(name): means[name].to_numpy() for name in means if name in own}


def _told(fit: Any) -> dict[str, Any]:
    """Return the description of its model in a fit."""
    return json.loads(fit.attrs.get("model", "{}"))
