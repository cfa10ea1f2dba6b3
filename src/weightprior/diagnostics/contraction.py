"""Contraction of the posterior relative to the prior, and its distance from the centre."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from weightprior.fits.layout import lay_out
from weightprior.fits.reading import Draws, parts_of
from weightprior.model.bnn import BNN
from weightprior.model.priors.normal import NormalPrior

__all__ = ["contraction", "layers_of", "of_layer", "shrinkage"]


def contraction(bnn: BNN, fit: xr.DataTree) -> xr.Dataset:
    """Compare the posterior of every weight with its prior.

    Draws are used as they are. If hidden units can be exchanged, their labels in chains have no
    meaning, and their weights look as wide as the prior: pass ``align(bnn, fit)`` then.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        The fit.

    Returns
    -------
    Dataset
        For every site, in its shape:

        - ``contraction.<site>``: 1 minus the posterior's variance divided by the prior's. At 0 the
          data say nothing about a weight; at 1 they determine it, as under a flat prior; below 0
          the posterior is wider than the prior. NaN for a single draw, which has no variance.
        - ``z_score.<site>``: the posterior's mean minus the prior's centre, in prior sds. NaN if
          the prior is flat.

        By layer (dim `layer`): `contraction_by_layer`, the mean over its weights, and
        `distance_by_layer`, the root mean square of the z-scores: about 1 if the prior's scale
        suits the weights and the data determine them, above 2 if the scale is too small. With the
        dim `prior` if the fit has it.

    Raises
    ------
    TypeError, ValueError
        If `fit` is not a fit of this model.

    References
    ----------
    M. Betancourt, Calibrating model-based inferences and decisions, 2018.
    :doi:`10.48550/arXiv.1803.08393`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> fit = wp.fit_mcmc(bnn, x, 2 * x[:, 0], prior=wp.normal_prior(bnn))
    >>> found = wp.diagnostics.contraction(bnn, fit)
    >>> round(float(found["z_score.output.weight"][0, 0]), 1)
    2.0
    >>> bool(found["contraction.output.weight"][0, 0] > 0.99)
    True
    """
    pieces = [_of_part(bnn, part.weights, part.prior) for part in parts_of(bnn, fit)]
    dims = {
        f"{kind}.{name}": site.dims
        for kind in ("contraction", "z_score")
        for name, site in bnn.sites.items()
    }
    dims |= {"contraction_by_layer": ("layer",), "distance_by_layer": ("layer",)}
    coords = {**fit["posterior"].coords, "layer": layers_of(bnn)}
    return lay_out(pieces, (), dims, coords)


def _of_part(bnn: BNN, weights: Draws, prior: NormalPrior) -> dict[str, Any]:
    shrunk, moved = shrinkage(weights, prior), {}
    for name, values in weights.items():
        loc, scale = prior.loc[name], prior.scale[name]
        moved[name] = np.where(np.isinf(scale), np.nan, (values.mean(axis=(0, 1)) - loc) / scale)
    layers = layers_of(bnn)
    return {
        **{f"contraction.{name}": values for name, values in shrunk.items()},
        **{f"z_score.{name}": values for name, values in moved.items()},
        "contraction_by_layer": np.array([of_layer(bnn, layer, shrunk).mean() for layer in layers]),
        "distance_by_layer": np.array([_root_mean_square(of_layer(bnn, n, moved)) for n in layers]),
    }


def shrinkage(weights: Draws, prior: NormalPrior) -> dict[str, np.ndarray]:
    """Compute 1 minus the draws' variance over the prior's, by site; NaN for a single draw."""
    single = weights.num_chains * weights.num_draws == 1
    return {
        name: 1.0
        - (np.nan if single else values.var(axis=(0, 1), ddof=1)) / np.square(prior.scale[name])
        for name, values in weights.items()
    }


def layers_of(bnn: BNN) -> list[str]:
    """Return the names of a network's layers, in the order of its sites."""
    return list(dict.fromkeys(site.layer for site in bnn.network.sites.values()))


def of_layer(bnn: BNN, layer: str, by_site: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the values for all weights and biases of one layer, from values by site."""
    sites = bnn.network.sites.items()
    return np.concatenate([by_site[name].ravel() for name, site in sites if site.layer == layer])


def _root_mean_square(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.sqrt(np.square(known).mean())) if known.size else np.nan
