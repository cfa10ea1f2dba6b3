"""What a prior believes before it sees data: networks and targets drawn from it."""

from typing import Any

import jax
import numpy as np
import xarray as xr

from weightprior import _checks, results
from weightprior.draws import evaluate
from weightprior.model import BNN, Prior

__all__ = ["prior_predictive"]


def prior_predictive(
    bnn: BNN,
    x: Any,
    *,
    prior: Prior,
    num_samples: int = 500,
    rng_key: Any = 0,
) -> xr.DataTree:
    """Draw networks from the prior and targets from the networks.

    Parameters
    ----------
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs.
    prior : NormalPrior or HierarchicalPrior
        The prior; the parts of a stacked one are drawn with common random numbers.
    num_samples : int
        Networks.
    rng_key : int or JAX key
        Decides the draws.

    Returns
    -------
    DataTree
        Groups `prior` (every site, latents above them, and `noise` where it is learned),
        `prior_predictive` (`mean` and `y`, as `predict` gives them) and `constant_data`. One
        chain.

    Raises
    ------
    ValueError
        Where a site's prior is flat: it cannot be drawn from.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1), wp.Gaussian())
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> drawn = wp.prior_predictive(bnn, x, prior=wp.normal_prior(bnn), num_samples=10)
    >>> dict(drawn["prior_predictive"]["y"].sizes)
    {'chain': 1, 'draw': 10, 'obs_id': 50}
    """
    _checks.model(bnn)
    inputs = _checks.rows(x, bnn.network.feature_names)
    bnn.check_prior(prior, learned=True, proper="nothing can be drawn from it")
    num_samples = _checks.integer("num_samples", num_samples, 1)
    with jax.enable_x64(True):
        keys = jax.random.split(_checks.random_key(rng_key), (1, num_samples))
    pieces = [evaluate(_draw, bnn, keys, inputs, part) for part in prior.parts()]
    return results.build_prior(bnn, x, prior, pieces)


def _draw(bnn: BNN, key: jax.Array, x: Any, prior: Prior) -> dict[str, Any]:
    key_weights, key_y = jax.random.split(key)
    drawn = bnn.draw(key_weights, prior, np.float64)
    weights = {name: drawn[name] for name in bnn.sites}
    return {
        "prior": drawn | bnn.likelihood.derived(weights),
        "prior_predictive": {
            "mean": bnn.mean(weights, x),
            "y": bnn.targets(weights, x).sample(key_y),
        },
    }
