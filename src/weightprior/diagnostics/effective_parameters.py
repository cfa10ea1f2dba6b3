"""How many parameters the data determine: what a prior leaves of a network's capacity."""

from typing import Any

import numpy as np
import xarray as xr

from weightprior.curvature import well_determined
from weightprior.draws import draws_of, evaluate, lay_out, priors_of, row_weights_of
from weightprior.model import BNN
from weightprior.priors import NormalPrior

__all__ = ["effective_parameters", "gamma"]

# Each draw costs a matrix of weights by weights.
_NUM_DRAWS = 16


def effective_parameters(bnn: BNN, fit: xr.DataTree, x: Any, y: Any) -> xr.Dataset:
    """Effective number of parameters, by the curvature of the log likelihood (MacKay's gamma).

    A weight counts as one where the data determine it and as none where the prior does.

    Parameters
    ----------
    bnn : BNN
        The model that was fitted.
    fit : DataTree
        The fit. Of many draws sixteen, spread over the chains, are looked at.
    x : array or data frame of shape (rows, features)
        Inputs of the rows that were fitted.
    y : array of shape (rows,) or (rows, outputs)
        Their targets. The expected information does not depend on them.

    Returns
    -------
    Dataset
        `gamma`: weights and biases that the data determine, mean over draws, between 0 and their
        number; `gamma_by_layer`, its terms (dim `layer`). With the dim `prior` where the fit has
        it.

    References
    ----------
    D. J. C. MacKay, A practical Bayesian framework for backpropagation networks, Neural
    Computation 4, 1992. :doi:`10.1162/neco.1992.4.3.448`

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(20,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 30)[:, None]
    >>> y = np.sin(3 * x[:, 0])
    >>> path = wp.stack_priors({s: wp.normal_prior(bnn, scale=s) for s in (0.1, 0.3, 1.0)})
    >>> fit = wp.fit_map(bnn, x, y, prior=path)
    >>> found = wp.diagnostics.effective_parameters(bnn, fit, x, y)
    >>> bool(found["gamma"][0] < found["gamma"][1] < found["gamma"][2] < 61)
    True
    """
    parts = draws_of(bnn, fit)
    inputs, _ = bnn.check_data(x, y)
    given = zip(parts, priors_of(bnn, fit), row_weights_of(fit, len(inputs)), strict=True)
    pieces = [gamma(bnn, weights, inputs, prior, counts) for weights, prior, counts in given]
    coords = {**fit["posterior"].coords, "layer": list(bnn.network.layers)}
    return lay_out(pieces, (), {"gamma": (), "gamma_by_layer": ("layer",)}, coords)


def gamma(
    bnn: BNN, weights: Any, x: np.ndarray, prior: NormalPrior, row_weights: np.ndarray
) -> dict[str, Any]:
    """Effective numbers of parameters under one prior: `gamma` and `gamma_by_layer`."""
    chains, draws = next(iter(weights.values())).shape[:2]
    chosen = np.unique(np.linspace(0, draws - 1, -(-_NUM_DRAWS // chains)).round().astype(int))
    thinned = {name: values[:, chosen] for name, values in weights.items()}
    by_site = evaluate(_by_site, bnn, thinned, x, prior, row_weights, at_once=1)
    by_layer = np.array(
        [by_site[f"{layer}.weight"] + by_site[f"{layer}.bias"] for layer in bnn.network.layers]
    ).mean(axis=(1, 2))
    return {"gamma": by_layer.sum(), "gamma_by_layer": by_layer}


def _by_site(bnn: BNN, weights, x, prior, row_weights) -> dict[str, Any]:
    found = well_determined(bnn, weights, x, prior, row_weights)
    return {name: share.sum() for name, share in found.items()}
