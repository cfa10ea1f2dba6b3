"""Draws from a prior, before any data: networks, and targets of these networks."""

from typing import Any

import jax
import numpy as np
import xarray as xr

from weightprior import _checks, _data
from weightprior._checks.options import names_its_options
from weightprior._running.progress import shows_progress
from weightprior.fits.evaluate import evaluate, numbered
from weightprior.fits.problem import fit_coords, target_coords
from weightprior.fits.results import build_prior
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.priors.base import Prior
from weightprior.model.trials import in_trials

__all__ = ["prior_predictive", "simulate"]


@names_its_options
@shows_progress
def prior_predictive(
    bnn: BNN,
    x: Any,
    *,
    prior: Prior,
    num_samples: int = 500,
    rng_key: Any = 0,
    trials: Any = None,
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
        Number of networks.
    rng_key : int or JAX key
        Decides the draws.
    trials : array of shape (rows,), optional
        Trials of every row, for `Binomial` alone; one by default.

    Returns
    -------
    DataTree
        Groups `prior` (every site, latents above them, and `noise` if it is learned),
        `prior_predictive` (`mean` and `y`, as in `predict`) and `constant_data`. One chain.

    Raises
    ------
    ValueError
        If a site's prior is flat: it cannot be drawn from; for `trials` that do not suit.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.5))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> drawn = wp.prior_predictive(bnn, x, prior=wp.normal_prior(bnn), num_samples=10)
    >>> dict(drawn["prior_predictive"]["y"].sizes)
    {'chain': 1, 'draw': 10, 'obs_id': 20}
    """
    _checks.model(bnn)
    inputs = _data.inputs(x, bnn.network.feature_names)
    _checks.prior(bnn, prior, learned=True, proper="nothing can be drawn from it")
    num_samples = _checks.integer("num_samples", num_samples, 1)
    key, numbers = _checks.random_key(rng_key), numbered(1, num_samples)
    model = in_trials(bnn, trials, len(inputs))
    pieces = [evaluate(_draw, model, numbers, inputs, part, key) for part in prior.singles()]
    coords = fit_coords(bnn, x, None, prior), target_coords(bnn, x, None, prior)
    return build_prior(bnn, inputs, prior, pieces, *coords)


def _draw(bnn: BNN, number: jax.Array, x: Any, prior: Prior, key: jax.Array) -> dict[str, Any]:
    key_weights, key_y = jax.random.split(jax.random.fold_in(key, number))
    drawn = density.draw(bnn, key_weights, prior, np.float64)
    weights = {name: drawn[name] for name in bnn.sites}
    return {
        "prior": drawn | density.derived(bnn, weights),
        "prior_predictive": {
            "mean": density.mean(bnn, weights, x),
            "y": density.targets(bnn, weights, x).sample(key_y),
        },
    }


@names_its_options
def simulate(
    bnn: BNN, x: Any, *, prior: Prior, rng_key: Any = 0, trials: Any = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draw a network from a prior, and targets from that network.

    This is for experiments with known true weights: fits under this prior, or under one centred at
    the weights, have a prior that holds the truth; fits under another prior do not.

    Parameters
    ----------
    bnn : BNN
        The model.
    x : array or data frame of shape (rows, features)
        Inputs.
    prior : NormalPrior or HierarchicalPrior
        A single prior, flat nowhere.
    rng_key : int or JAX key
        Decides weights and targets.
    trials : array of shape (rows,), optional
        Trials of every row, for `Binomial` alone; one by default.

    Returns
    -------
    weights : dict of str to array
        Every site, including the noise if it is learned.
    y : array of shape (rows,) or (rows, outputs)
        Targets with noise: labels if classes have labels, successes and failures for `Binomial`.

    Raises
    ------
    ValueError, TypeError
        For inputs that do not suit the model, and a prior that is stacked or flat somewhere.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=()), wp.Gaussian(noise=0.5))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> weights, y = wp.simulate(bnn, x, prior=wp.normal_prior(bnn))
    >>> y.shape
    (20,)
    >>> centered = wp.normal_prior(bnn, loc=weights, scale=0.1)  # one that knows the truth
    """
    _checks.model(bnn)
    _checks.prior(bnn, prior, stacked=False, learned=True)
    drawn = prior_predictive(bnn, x, prior=prior, num_samples=1, rng_key=rng_key, trials=trials)
    weights = {name: drawn["prior"][name].to_numpy()[0, 0] for name in bnn.sites}
    y = drawn["prior_predictive"]["y"].to_numpy()[0, 0]
    return weights, in_trials(bnn, trials, len(y)).likelihood.fitted(y)
