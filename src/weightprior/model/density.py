"""The one density that every method evaluates, for use in compiled programs.

Nothing here reads a number to check it: arguments of users are checked once, by `BNN` and by
`fits.problem`. Shapes are checked, since they are known while a program is traced.
"""

from functools import partial, reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from weightprior import _checks
from weightprior.model.blocks import map_rows, rows_at_once, sum_rows
from weightprior.model.sites import Weights

__all__ = [
    "FEW_ROWS",
    "derived",
    "draw",
    "log_joint",
    "log_likelihood",
    "log_prior",
    "log_prior_by_site",
    "mean",
    "observed",
    "outputs",
    "pointwise_log_likelihood",
    "targets",
]

# Up to this many rows, single precision sums log densities with an error of a thousandth of a nat.
FEW_ROWS = 10_000


def outputs(bnn, weights: Weights, x: Any) -> jax.Array:
    """Compute the outputs of the network, of shape (rows, outputs)."""
    network = bnn.network
    weights = _checks.arrays("weights", weights, network.sites)
    _checks.input_shape(np.shape(x), len(network.feature_names))
    found = map_rows(network.apply, weights, x, rows_at_once(network, np.shape(x)[0]))
    expected = np.shape(x)[0], network.num_outputs
    if np.shape(found) != expected:
        raise ValueError(
            f"network: expected outputs of shape {expected}, (rows, num_outputs), from its `apply`;"
            f" got {np.shape(found)}."
        )
    return found


def targets(bnn, weights: Weights, x: Any) -> dist.Distribution:
    """Return the distribution of the rows, of batch shape (rows,)."""
    weights = _checks.arrays("weights", weights, bnn.sites)
    return bnn.likelihood.targets(outputs(bnn, weights, x), weights)


def mean(bnn, weights: Weights, x: Any) -> jax.Array:
    """Compute E[y | weights, x]: the location, the rate, or the probability of each class."""
    weights = _checks.arrays("weights", weights, bnn.sites)
    return bnn.likelihood.mean(outputs(bnn, weights, x), weights)


def derived(bnn, weights: Weights) -> dict[str, jax.Array]:
    """Compute latents of the likelihood on their natural scale, if they have a name there."""
    return {
        latent.derived: latent.natural(weights[name])
        for name, latent in bnn.latents.items()
        if latent.derived
    }


def log_prior_by_site(bnn, weights: Weights, prior: Any) -> dict[str, jax.Array]:
    """Compute the terms of the log prior, by site; those of hyperparameters come first."""
    weights = _checks.arrays("weights", weights, {**prior.sites, **bnn.sites})
    laws = prior.hyperparameters(_dtype(bnn, weights)).items()
    conditional = prior.conditional(weights)
    return {
        **{name: law.log_prob(weights[name]) for name, law in laws},
        **{
            name: conditional.distribution(name, weights[name].dtype).log_prob(weights[name])
            for name in bnn.sites
        },
    }


def log_prior(bnn, weights: Weights, prior: Any) -> jax.Array:
    """Compute the weights' log density under a single prior, in nats; a flat site adds nothing."""
    return reduce(add, log_prior_by_site(bnn, weights, prior).values())


def pointwise_log_likelihood(bnn, weights: Weights, x: Any, y: Any) -> jax.Array:
    """Compute the log density of every row's targets given the weights, in nats: shape (rows,)."""
    weights = _checks.arrays("weights", weights, bnn.sites)
    return _log_densities(bnn, outputs(bnn, weights, x), weights, y, _dtype(bnn, weights))


def log_likelihood(
    bnn, weights: Weights, x: Any, y: Any, row_weights: Any = None, *, less: Any = None
) -> jax.Array:
    """Compute the log density of all targets, in nats; rows count by their row weights.

    With many rows, in single precision the derivatives are right and the sum is wrong by a nat. The
    sum, and terms that all rows share, such as the noise's logarithm, are then computed in double
    precision.

    Parameters
    ----------
    bnn, weights, x, y, row_weights
        The model, an array for every site, and the rows.
    less : array of shape (), optional
        A number to subtract from the sum before it is rounded to the precision of the weights.
    """
    weights, num_rows = _checks.arrays("weights", weights, bnn.sites), np.shape(x)[0]
    if row_weights is not None:
        _checks.row_weights_shape(np.shape(row_weights), (num_rows,))
    at_once, dtype = rows_at_once(bnn.network, num_rows), _dtype(bnn, weights)
    if num_rows <= min(FEW_ROWS, at_once):
        found = _sum(bnn, outputs(bnn, weights, x), weights, y, row_weights)
        return found if less is None else found - less
    _checks.target_shape(np.shape(y)[:1], (num_rows,))
    counts = jnp.ones(num_rows, dtype) if row_weights is None else row_weights
    rows = tuple(jnp.asarray(array) for array in (x, y, counts))
    found = sum_rows(partial(_exact_sum, bnn), weights, rows, at_once)
    with jax.enable_x64(True):
        return (found if less is None else found - less.astype(found.dtype)).astype(dtype)


def _exact_sum(bnn, weights: Weights, x: Any, y: Any, row_weights: Any) -> jax.Array:
    """Sum the rows' log densities in double precision, with derivatives in that of the weights."""
    output = outputs(bnn, weights, x)
    found = _sum(bnn, output, weights, y, row_weights)
    if found.dtype == jnp.float64:
        return found
    with jax.enable_x64(True):
        fixed = jax.lax.stop_gradient((output, dict(weights)))
        output, weights = jax.tree.map(lambda a: a.astype(jnp.float64), fixed)
        exact = _sum(bnn, output, weights, y, row_weights)
        # Zero, except for its derivatives.
        derivatives = found - jax.lax.stop_gradient(found)
        return exact + jnp.where(jnp.isfinite(found), derivatives, jnp.zeros_like(found))


def _sum(bnn, output: jax.Array, weights: Weights, y: Any, row_weights: Any) -> jax.Array:
    """Sum the rows' log densities, in the precision of the outputs."""
    terms = _log_densities(bnn, output, weights, y, output.dtype)
    if row_weights is None:
        return terms.sum()
    counts = jnp.asarray(row_weights, terms.dtype)
    # A row that does not count must not spoil the sum by overflowing.
    return jnp.where(counts > 0, counts * terms, jnp.zeros_like(terms)).sum()


def _log_densities(bnn, output: jax.Array, weights: Weights, y: Any, dtype: Any) -> jax.Array:
    law = bnn.likelihood.targets(output, weights)
    return law.log_prob(observed(bnn, y, law, dtype)).astype(dtype)


def log_joint(
    bnn, weights: Weights, x: Any, y: Any, prior: Any, row_weights: Any = None
) -> jax.Array:
    """Compute the log density of weights and targets, in nats, with all constants."""
    of_weights = log_prior(bnn, weights, prior)
    of_targets = log_likelihood(bnn, weights, x, y, row_weights)
    return of_weights + of_targets.astype(of_weights.dtype)


def draw(bnn, key: jax.Array, prior: Any, dtype: Any) -> dict[str, jax.Array]:
    """Draw hyperparameters and every site from a prior."""
    laws = prior.hyperparameters(dtype)
    keys = iter(jax.random.split(key, len(bnn.sites) + len(laws)))
    hyperparameters = {name: law.sample(next(keys)) for name, law in laws.items()}
    conditional = prior.conditional(hyperparameters)
    return hyperparameters | {
        name: conditional.distribution(name, dtype).sample(next(keys)) for name in bnn.sites
    }


def observed(bnn, y: Any, law: dist.Distribution, dtype: Any) -> jax.Array:
    """Return targets in the form that their distribution takes."""
    # Without this check, a column of targets would be broadcast against all rows.
    _checks.target_shape(np.shape(y), law.shape())
    return bnn.likelihood.observed(y, dtype)


def _dtype(bnn, weights: Weights) -> Any:
    """Return the precision of the computation: that of the weights."""
    return weights[next(iter(bnn.network.sites))].dtype
