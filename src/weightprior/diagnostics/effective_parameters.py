"""Effective number of parameters: the part of a network's capacity that a prior leaves."""

import math
from typing import Any

import numpy as np
import xarray as xr

from weightprior import _data
from weightprior.diagnostics.contraction import layers_of, of_layer, shrinkage
from weightprior.fits.evaluate import evaluate
from weightprior.fits.layout import lay_out
from weightprior.fits.pointwise import loo_of
from weightprior.fits.reading import Draws, Part, parts_of, same_rows
from weightprior.model.bnn import BNN
from weightprior.model.curvature import well_determined
from weightprior.model.priors.normal import NormalPrior

__all__ = ["effective_parameters", "gamma"]

# Each draw costs a matrix of weights by weights.
_NUM_DRAWS = 16


def effective_parameters(bnn: BNN, fit: xr.DataTree, x: Any, y: Any) -> xr.Dataset:
    """Compute effective numbers of parameters by curvature, contraction and leave-one-out.

    A weight counts as one if the data determine it, and as zero if the prior does. In a linear
    model with known Gaussian noise, the first two are the same number.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        The fit. For `gamma`, sixteen draws are used if there are more, spread over the chains.
    x : array or data frame of shape (rows, features)
        Inputs of the rows that were fitted.
    y : array of shape (rows,) or (rows, outputs)
        Their targets. The expected information does not depend on them.

    Returns
    -------
    Dataset
        With the dim `prior` if the fit has it:

        - `gamma`: MacKay's, by the expected curvature of the log likelihood, mean over draws:
          between 0 and the number of weights and biases; `gamma_by_layer`, its terms (dim `layer`).
        - `contracted`: the sum over weights and biases of 1 minus the posterior's variance over the
          prior's, and `contracted_by_layer`. NaN for a single draw, such as a MAP.
        - `p_loo`: the log density of the rows under the posterior minus that by leave-one-out, as
          in ArviZ. NaN for a MAP or fewer than 100 draws. Not reliable if `compare` calls LOO
          unreliable.

        They may disagree. `gamma` is a mean over draws of a local measure around each draw.
        `contracted` depends on variances alone. If the data determine only a curve on which weights
        lie, such as their product, the weights stay wide, and `contracted` is smaller, even below
        0. It uses draws as they are: if hidden units can be exchanged, pass ``align(bnn, fit)``,
        or the arbitrary labels of units make weights look as wide as the prior. Weights that an
        approximation holds fixed count as determined. `p_loo` counts by predictions: it depends on
        the targets, and rows that the model does not expect raise it.

    References
    ----------
    D. J. C. MacKay, A practical Bayesian framework for backpropagation networks, Neural
    Computation 4, 1992. :doi:`10.1162/neco.1992.4.3.448`

    A. Vehtari, A. Gelman and J. Gabry, Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, 2017. :doi:`10.1007/s11222-016-9696-4`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> y = np.sin(3 * x[:, 0])
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.1, 0.3, 1.0)})
    >>> fit = wp.fit_map(bnn, x, y, prior=path)
    >>> found = wp.diagnostics.effective_parameters(bnn, fit, x, y)
    >>> bool(found["gamma"][0] < found["gamma"][1] < found["gamma"][2] < 16)
    True
    """
    parts = parts_of(bnn, fit)
    inputs, targets = _data.checked(bnn, x, y)
    pieces = [
        gamma(part.model, part.weights, inputs, targets, part.prior, same_rows(part, inputs))
        | _contracted(bnn, part.weights, part.prior)
        | {"p_loo": _p_loo(part)}
        for part in parts
    ]
    dims = {"gamma_by_layer": ("layer",), "contracted_by_layer": ("layer",)}
    return lay_out(pieces, (), dims, {**fit["posterior"].coords, "layer": layers_of(bnn)})


def gamma(
    bnn: BNN,
    weights: Draws,
    x: np.ndarray,
    y: np.ndarray,
    prior: NormalPrior,
    row_weights: np.ndarray,
) -> dict[str, Any]:
    """Compute the effective numbers under one prior: `gamma` and `gamma_by_layer`."""
    count = -(-_NUM_DRAWS // weights.num_chains)
    chosen = np.unique(np.linspace(0, weights.num_draws - 1, count).round().astype(int))
    thinned = weights.take(chosen)
    shares = evaluate(well_determined, bnn, thinned, x, y, prior, row_weights, at_once=1)
    names = sorted(bnn.sites)
    ends = np.cumsum([math.prod(bnn.sites[name].shape) for name in names])[:-1]
    by_site = dict(zip(names, np.split(shares.mean(axis=(0, 1)), ends), strict=True))
    by_layer = dict.fromkeys(layers_of(bnn), 0.0)
    for name, site in bnn.network.sites.items():
        by_layer[site.layer] += by_site[name].sum()
    return {"gamma": sum(by_layer.values()), "gamma_by_layer": np.array([*by_layer.values()])}


def _contracted(bnn: BNN, weights: Draws, prior: NormalPrior) -> dict[str, Any]:
    shrunk = shrinkage(weights, prior)
    by_layer = np.array([of_layer(bnn, layer, shrunk).sum() for layer in layers_of(bnn)])
    return {"contracted": by_layer.sum(), "contracted_by_layer": by_layer}


def _p_loo(part: Part) -> float:
    loo, _ = loo_of(part)
    return np.nan if loo is None else loo.p
