"""A linear regression with a normal prior on its coefficients: its integral, and draws from it.

Coefficients are in sds of the prior, and targets in sds of the noise.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightprior.inference._branch import choose

__all__ = ["Regression", "draw", "equations", "log_integral", "per_output", "solve"]

# Signal to noise up to which single precision suffices: there a log determinant is right to 0.01.
_SINGLE_LIMIT = 1e5
_SUM_OVER_LAST = (((1,), (1,)), ((), ()))
_SUM_OVER_LAST_AND_FIRST = (((1,), (0,)), ((), ()))


class Regression(NamedTuple):
    """Regression of the targets on the last hidden units, in units of noise and prior.

    Attributes
    ----------
    columns : array of shape (outputs, columns, rows)
    residual : array of shape (outputs, rows)
        Targets less the network's outputs with the output layer at 0.
    center : array of shape (outputs, columns)
        Centre of the prior.
    precision : array of shape (outputs, columns)
        Precision of the prior: 1, or 0 if it is flat.
    """

    columns: jax.Array
    residual: jax.Array
    center: jax.Array
    precision: jax.Array


def per_output(function: Callable[..., Any], *arrays: jax.Array) -> Any:
    """Compute results output by output; a single output needs no compiled loop."""
    if len(arrays[0]) > 1:
        return jax.lax.map(lambda args: function(*args), arrays)
    return jax.tree.map(lambda one: one[None], function(*(array[0] for array in arrays)))


@jax.custom_vjp
def log_integral(
    columns: jax.Array, residual: jax.Array, center: jax.Array, precision: jax.Array
) -> jax.Array:
    """Compute the log integral over z of ``exp(-|residual - columns' z|^2 / 2)`` times its prior.

    Its derivative is written out, since that of the factorisation would cost several times more.
    """
    return _forward(columns, residual, center, precision)[0]


def _forward(columns, residual, center, precision):
    mean, inverse_root, half_log_det = solve(*equations(columns, residual), center, precision)
    rest, away = residual - mean @ columns, mean - center
    # At the optimum of the exponent, an error of the mean does not matter to first order.
    value = -0.5 * (rest @ rest + away @ (precision * away)) - half_log_det
    return value, (columns, rest, mean, inverse_root.T @ inverse_root, precision)


def _backward(saved, cotangent):
    columns, rest, mean, covariance, precision = saved
    of_columns = mean[:, None] * rest[None, :] - covariance @ columns
    nothing = jnp.zeros_like(precision)  # centre and precision are given
    return cotangent * of_columns, -cotangent * rest, nothing, nothing


log_integral.defvjp(_forward, _backward)


def draw(normals, gram, projection, center, precision) -> jax.Array:
    """Draw z, given everything else."""
    mean, inverse_root, _ = solve(gram, projection, center, precision)
    return mean + normals @ inverse_root


def equations(columns: jax.Array, residual: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Multiply the columns with one another, as exactly as the signal needs, and with targets.

    The product with the targets keeps the precision of the columns: its part of a draw is only as
    large as the draw.
    """
    with jax.enable_x64(True):
        return _gram(columns), jax.lax.dot_general(columns, residual, _SUM_OVER_LAST_AND_FIRST)


def solve(gram, projection, center, precision) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute the mean of z, and its precision's inverse root and half log determinant.

    This is in double precision, whatever JAX's setting: the matrix has the signal to noise as its
    condition number. The products are lax's own, since NumPy's cannot be vectorised beyond the
    setting.
    """
    dtype = center.dtype
    with jax.enable_x64(True):
        matrix = gram + jnp.diag(precision.astype(jnp.float64))
        root = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
        identity = jnp.eye(len(root), dtype=root.dtype)
        inverse_root = jax.lax.linalg.triangular_solve(root, identity, left_side=True, lower=True)
        projection = (projection + precision * center).astype(root.dtype)
        scaled = jax.lax.dot_general(inverse_root, projection, _SUM_OVER_LAST_AND_FIRST)
        mean = jax.lax.dot_general(scaled, inverse_root, (((0,), (0,)), ((), ())))
        half_log_det = jnp.log(jnp.diagonal(root)).sum()
        return mean.astype(dtype), inverse_root.astype(dtype), half_log_det.astype(dtype)


def _gram(columns):
    def product(columns):
        return jax.lax.dot_general(columns, columns, _SUM_OVER_LAST).astype(jnp.float64)

    largest = jnp.max(jnp.sum(columns * columns, axis=1))
    return choose(
        largest < _SINGLE_LIMIT, product, lambda c: product(c.astype(jnp.float64)), columns
    )
