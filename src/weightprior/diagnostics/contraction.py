"""What the data changed: how much narrower than the prior, and how far from its centre."""

from typing import Any

import numpy as np
import xarray as xr

from weightprior.draws import draws_of, lay_out, priors_of
from weightprior.model import BNN
from weightprior.priors import NormalPrior

__all__ = ["contraction", "shrinkage"]


def contraction(bnn: BNN, fit: xr.DataTree) -> xr.Dataset:
    """Compare the posterior of every weight with its prior.

    Draws are taken as they stand. Where hidden units can be exchanged, the labels of chains mean
    nothing, and their weights look as wide as the prior: pass ``align(bnn, fit)`` there.

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

        - ``contraction.<site>``: 1 minus the posterior's variance over the prior's. 0: the data
          say nothing; 1: they say everything, which is what a flat prior is left with; below 0
          the posterior is wider. NaN for a single draw, which has no variance.
        - ``z_score.<site>``: the posterior's mean less the prior's centre, in prior sds. NaN
          where the prior is flat.

        By layer (dim `layer`): `contraction_by_layer`, the mean over its numbers, and
        `distance_by_layer`, the root mean square of the z-scores: about 1 where the prior's scale
        is what the weights needed and the data determine them, above 2 where it was in the way.
        With the dim `prior` where the fit has it.

    Raises
    ------
    TypeError, ValueError
        Where `fit` is not a fit of this model.

    References
    ----------
    M. Betancourt, Calibrating model-based inferences and decisions, 2018.
    :doi:`10.48550/arXiv.1803.08393`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> fit = wp.fit_mcmc(bnn, x, 2 * x[:, 0], prior=wp.normal_prior(bnn))
    >>> found = wp.diagnostics.contraction(bnn, fit)
    >>> round(float(found["z_score.output.weight"][0, 0]), 1)
    2.0
    >>> bool(found["contraction.output.weight"][0, 0] > 0.99)
    True
    """
    given = zip(draws_of(bnn, fit), priors_of(bnn, fit), strict=True)
    pieces = [_of_part(bnn, weights, prior) for weights, prior in given]
    dims = {
        f"{kind}.{name}": site.dims
        for kind in ("contraction", "z_score")
        for name, site in bnn.sites.items()
    }
    dims |= {"contraction_by_layer": ("layer",), "distance_by_layer": ("layer",)}
    coords = {**fit["posterior"].coords, "layer": list(bnn.network.layers)}
    return lay_out(pieces, (), dims, coords)


def _of_part(bnn: BNN, weights: dict[str, np.ndarray], prior: NormalPrior) -> dict[str, Any]:
    shrunk, moved = shrinkage(weights, prior), {}
    for name, values in weights.items():
        loc, scale = prior.loc[name], prior.scale[name]
        moved[name] = np.where(np.isinf(scale), np.nan, (values.mean(axis=(0, 1)) - loc) / scale)
    layers = bnn.network.layers
    return {
        **{f"contraction.{name}": values for name, values in shrunk.items()},
        **{f"z_score.{name}": values for name, values in moved.items()},
        "contraction_by_layer": np.array([_of_layer(layer, shrunk).mean() for layer in layers]),
        "distance_by_layer": np.array([_root_mean_square(_of_layer(n, moved)) for n in layers]),
    }


def shrinkage(weights: dict[str, np.ndarray], prior: NormalPrior) -> dict[str, np.ndarray]:
    """1 minus the draws' variance over the prior's, by site; NaN for a single draw."""
    shrunk = {}
    for name, values in weights.items():
        single = values.shape[0] * values.shape[1] == 1
        variance = np.nan if single else values.var(axis=(0, 1), ddof=1)
        shrunk[name] = 1.0 - variance / np.square(prior.scale[name])
    return shrunk


def _of_layer(layer: str, by_site: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([by_site[f"{layer}.{kind}"].ravel() for kind in ("weight", "bias")])


def _root_mean_square(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.sqrt(np.square(known).mean())) if known.size else np.nan
