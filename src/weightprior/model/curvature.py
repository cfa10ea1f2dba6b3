"""Curvature of the log likelihood: the Gauss-Newton matrix, which is the Fisher information.

It is the Hessian if the network is taken as linear in its weights. Unlike the Hessian, it is
positive semi-definite everywhere.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from weightprior.model.blocks import fold_rows
from weightprior.model.priors.base import Prior
from weightprior.model.sites import Weights

__all__ = ["gauss_newton", "prior_precision", "well_determined"]

# Number of rows with Jacobians that are held at once.
_ROWS_AT_ONCE = 512
# Precision for a flat prior, so that a matrix can be inverted even if the data say nothing.
_FLAT_PRECISION = 1e-3


def gauss_newton(
    bnn,
    weights_at: Callable[[jax.Array], Weights],
    position: jax.Array,
    x: jax.Array,
    y: jax.Array,
    row_weights: jax.Array,
) -> jax.Array:
    """Compute the expected information of the rows' targets about a position.

    If a likelihood does not know it, the curvature of its log density is used, as in the
    generalised Gauss-Newton matrix. That need not be positive semi-definite.

    Parameters
    ----------
    bnn : BNN
        The model.
    weights_at : callable
        Function from a position to weights. It defines the coordinates of the matrix.
    position : array of shape (size,)
        Position of the curvature.
    x : array of shape (rows, features)
        Inputs.
    y : array of shape (rows,) or (rows, outputs)
        Targets, for likelihoods with an unknown expected information.
    row_weights : array of shape (rows,)
        Number of times each row counts.

    Returns
    -------
    array of shape (size, size)

    References
    ----------
    J. Martens, New insights and perspectives on the natural gradient method, JMLR 21, 2020.
    """
    # Latents with information that is computed together with that about the outputs.
    coupled = [name for name, latent in bnn.latents.items() if latent.information is None]

    def informed(row: jax.Array, position: jax.Array) -> jax.Array:
        """Return the quantities about which one row's target is informative."""
        weights = weights_at(position)
        output = bnn.network.apply(weights, row[None, :])[0]
        return jnp.concatenate([output, *(weights[name].ravel() for name in coupled)])

    def in_row(row: jax.Array, target: jax.Array, row_weight: jax.Array) -> _OfRow:
        """Compute the information in one row: a root of it, or factors if it has none."""
        output = informed(row, position)[: bnn.network.num_outputs]
        jacobian = jax.jacrev(partial(informed, row))(position)
        root = bnn.likelihood.information_root(output, weights_at(position))
        counts = row_weight > 0
        if root is None:
            curvature = row_weight * bnn.likelihood.curvature(output, weights_at(position), target)
            return _OfRow(jacobian, jnp.where(counts, curvature, jnp.zeros_like(curvature)))
        found = jnp.sqrt(row_weight) * root.T @ jacobian
        return _OfRow(jnp.where(counts, found, jnp.zeros_like(found)))

    def add(total: jax.Array, *block: jax.Array) -> jax.Array:
        with jax.enable_x64(ambient):
            factor, middle = jax.vmap(in_row)(*block)
            if middle is not None:
                return total + jnp.einsum("rai,rab,rbj->ij", factor, middle, factor)
            roots = factor.reshape(-1, position.size)
            return total + roots.T @ roots

    ambient, nothing = jax.config.jax_enable_x64, jnp.zeros((position.size,) * 2, position.dtype)
    total = fold_rows(add, nothing, (x, y, row_weights), _ROWS_AT_ONCE)
    return total + row_weights.sum() * _of_latents(bnn, weights_at, position)


class _OfRow(NamedTuple):
    """Information in a row: ``factor.T @ factor``, or ``factor.T @ middle @ factor``."""

    factor: jax.Array
    middle: jax.Array | None = None


def _of_latents(bnn, weights_at, position: jax.Array) -> jax.Array:
    """Compute one row's information about latents that share none with the outputs."""
    total = jnp.zeros((), position.dtype)
    for name, latent in bnn.latents.items():
        if latent.information is not None:
            jacobian = jax.jacrev(lambda p, name=name: weights_at(p)[name].ravel())(position)
            total = total + latent.information * jacobian.T @ jacobian
    return total


def well_determined(
    bnn,
    weights: Weights,
    x: jax.Array,
    y: jax.Array,
    prior: Prior,
    row_weights: jax.Array,
) -> jax.Array:
    """Compute the share of the information about each weight that the data give, not the prior.

    Parameters
    ----------
    bnn : BNN
        The model.
    weights : mapping of str to array
        An array for every site.
    x : array of shape (rows, features)
        Inputs.
    y : array of shape (rows,) or (rows, outputs)
        Targets.
    prior : NormalPrior
        A single prior.
    row_weights : array of shape (rows,)
        Number of times each row counts.

    Returns
    -------
    array of shape (size,)
        Site after site, in the order of their names. It is between 0, if the prior decides, and 1,
        if the data decide. The sum is the effective number of parameters.

    References
    ----------
    D. J. C. MacKay, A practical Bayesian framework for backpropagation networks, Neural
    Computation 4, 1992. :doi:`10.1162/neco.1992.4.3.448`
    """
    unit = prior.length_scale(bnn.sites)
    zero, unravel = ravel_pytree({name: jnp.zeros_like(weights[name]) for name in bnn.sites})

    def weights_at(position):
        moved = unravel(position)
        return {name: weights[name] + unit[name] * moved[name] for name in moved}

    data = _semi_definite(bnn, gauss_newton(bnn, weights_at, zero, x, y, row_weights))
    precision = prior_precision(bnn, prior, zero.dtype)
    root = jax.lax.linalg.cholesky(data + jnp.diag(precision), symmetrize_input=False)
    identity = jnp.eye(len(root), dtype=root.dtype)
    inverse_root = jax.lax.linalg.triangular_solve(root, identity, left_side=True, lower=True)
    return 1.0 - precision * jnp.square(inverse_root).sum(axis=0)


def _semi_definite(bnn, matrix: jax.Array) -> jax.Array:
    """Drop the negative part of a curvature; an information has none."""
    one_row = jnp.zeros(bnn.network.num_outputs, matrix.dtype)
    latents = {n: jnp.zeros(latent.shape, matrix.dtype) for n, latent in bnn.latents.items()}
    if bnn.likelihood.information_root(one_row, latents) is not None:
        return matrix
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.maximum(values, 0.0)) @ vectors.T


def prior_precision(bnn, prior: Prior, dtype: Any) -> jax.Array:
    """Return the prior's precision per squared unit, by site: 1, or close to 0 if flat."""
    flat = {name: jnp.isinf(jnp.asarray(prior.scale[name])) for name in bnn.sites}
    return jnp.where(ravel_pytree(flat)[0], _FLAT_PRECISION, 1.0).astype(dtype)
