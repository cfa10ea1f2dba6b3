"""A network drawn from a prior, and its data: a world in which that prior holds the truth."""

from typing import Any

import numpy as np

from weightprior import _checks
from weightprior.model import BNN, Prior
from weightprior.prior_predictive import prior_predictive

__all__ = ["teacher"]


def teacher(
    bnn: BNN, x: Any, *, prior: Prior, rng_key: Any = 0
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draw a network from a prior, and targets from that network.

    So "the prior holds the true values" can be made true, by fitting under this prior or one
    centred at the weights, and false on purpose, under another.

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

    Returns
    -------
    weights : dict of str to array
        Every site, the noise included where it is learned.
    y : array of shape (rows,) or (rows, outputs)
        Targets, noise included.

    Raises
    ------
    ValueError, TypeError
        For inputs that do not suit the model, and a prior that is stacked or flat somewhere.

    Examples
    --------
    >>> import numpy as np
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, hidden=(5,)), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-1, 1, 30)[:, None]
    >>> weights, y = wp.teacher(bnn, x, prior=wp.normal_prior(bnn))
    >>> y.shape
    (30,)
    >>> centered = wp.normal_prior(bnn, loc=weights, scale=0.1)  # one that knows the truth
    """
    _checks.model(bnn)
    bnn.check_prior(prior, stacked=False, learned=True)
    drawn = prior_predictive(bnn, x, prior=prior, num_samples=1, rng_key=rng_key)
    weights = {name: drawn["prior"][name].to_numpy()[0, 0] for name in bnn.sites}
    return weights, drawn["prior_predictive"]["y"].to_numpy()[0, 0]
