"""Curvature of the log likelihood: the Gauss-Newton matrix, which is the Fisher information.

It is what remains of the Hessian where the network is taken to be linear in its weights, and,
unlike the Hessian, it is positive semi-definite everywhere.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from weightprior._weights import Weights
from weightprior.model import BNN
from weightprior.priors import NormalPrior

__all__ = ["gauss_newton", "prior_precision", "well_determined"]

# Rows whose Jacobians are held at once.
_BLOCK = 512
# What a flat prior knows, so that a matrix can be inverted where the data know nothing either.
_FLAT_PRECISION = 1e-3


def gauss_newton(
    bnn: BNN,
    weights_at: Callable[[jax.Array], Weights],
    position: jax.Array,
    x: jax.Array,
    row_weights: jax.Array,
) -> jax.Array:
    """Expected information that the rows' targets carry about a position.

    Parameters
    ----------
    bnn : BNN
        The model.
    weights_at : callable
        Weights at a position: the coordinates in which the matrix is wanted.
    position : array of shape (size,)
        Where.
    x : array of shape (rows, features)
        Inputs.
    row_weights : array of shape (rows,)
        How often each row counts.

    Returns
    -------
    array of shape (size, size)

    References
    ----------
    J. Martens, New insights and perspectives on the natural gradient method, JMLR 21, 2020.
    """

    def root(row: jax.Array, row_weight: jax.Array) -> jax.Array:
        """A matrix whose Gram matrix is the information in one row."""

        def outputs(position):
            return bnn.network.apply(weights_at(position), row[None, :])[0]

        per_output = bnn.likelihood.information_root(outputs(position), weights_at(position))
        return jnp.sqrt(row_weight) * per_output.T @ jax.jacrev(outputs)(position)

    def add(total: jax.Array, block: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        roots = jax.vmap(root)(*block).reshape(-1, position.size)
        return total + roots.T @ roots, None

    num_blocks = -(-len(x) // _BLOCK)
    missing = -len(x) % num_blocks  # filled up with rows that do not count
    inputs = jnp.pad(x, ((0, missing), (0, 0))).reshape(num_blocks, -1, x.shape[1])
    counts = jnp.pad(row_weights, (0, missing)).reshape(num_blocks, -1)
    total, _ = jax.lax.scan(
        add, jnp.zeros((position.size, position.size), position.dtype), (inputs, counts)
    )
    return total + row_weights.sum() * _of_noise(bnn, weights_at, position)


def _of_noise(bnn: BNN, weights_at, position: jax.Array) -> jax.Array:
    """Information that one row carries about a learned noise; it shares none with the outputs."""
    if "log_noise" not in bnn.sites:
        return jnp.zeros((), position.dtype)
    jacobian = jax.jacrev(lambda position: weights_at(position)["log_noise"].ravel())(position)
    return bnn.likelihood.noise_information() * jacobian.T @ jacobian


def well_determined(
    bnn: BNN, weights: Weights, x: jax.Array, prior: NormalPrior, row_weights: jax.Array
) -> dict[str, jax.Array]:
    """Share of what is known about each weight that the data know, not the prior.

    Parameters
    ----------
    bnn : BNN
        The model.
    weights : mapping of str to array
        An array for every site.
    x : array of shape (rows, features)
        Inputs.
    prior : NormalPrior
        A single prior.
    row_weights : array of shape (rows,)
        How often each row counts.

    Returns
    -------
    dict of str to array
        Of the sites' shapes: between 0, where the prior decides, and 1, where the data do. Their
        sum is the effective number of parameters.

    References
    ----------
    D. J. C. MacKay, A practical Bayesian framework for backpropagation networks, Neural
    Computation 4, 1992. :doi:`10.1162/neco.1992.4.3.448`
    """
    unit = bnn.unit(prior)
    zero, unravel = ravel_pytree({name: jnp.zeros_like(weights[name]) for name in bnn.sites})

    def weights_at(position):
        moved = unravel(position)
        return {name: weights[name] + unit[name] * moved[name] for name in moved}

    data = gauss_newton(bnn, weights_at, zero, x, row_weights)
    known = data + jnp.diag(prior_precision(bnn, prior, zero.dtype))
    return unravel(jnp.diagonal(jax.scipy.linalg.solve(known, data, assume_a="pos")))


def prior_precision(bnn: BNN, prior: NormalPrior, dtype: Any) -> jax.Array:
    """Precision of the prior per squared unit, site after site: 1, or next to none where flat."""
    flat = {name: jnp.isinf(jnp.asarray(prior.scale[name])) for name in bnn.sites}
    return jnp.where(ravel_pytree(flat)[0], _FLAT_PRECISION, 1.0).astype(dtype)
