"""A learned noise that runs to zero, as it does if the outputs meet the targets exactly.

For every factor of e by which the noise shrinks, the log density then rises by one nat per target,
until the prior holds the noise or rounding ends the search.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightprior.model import density
from weightprior.model.blocks import fold_rows, rows_at_once
from weightprior.model.bnn import BNN
from weightprior.model.sites import Weights

__all__ = ["Collapse", "is_hopeless", "measure", "spread"]

# If a search has not converged: noise as a share of the spread of the targets, at which outputs
# explain all their variance but a millionth.
_NEXT_TO_NONE = 1e-3
# If it has converged: mean square of residuals in units of the noise, which is about 1 if the data
# determine the noise; and the noise, as a share of the spread of the targets, below which a warning
# is given.
_MET, _SMALL = 1e-2, 0.05


# Least noise as a share of the spread, and squared residuals in units of it, of every target.
type _Total = tuple[jax.Array, jax.Array]


class Collapse(NamedTuple):
    """Distance of a learned noise from zero.

    Attributes
    ----------
    relative_noise : array of shape ()
        The smallest learned scale, as a share of the spread of its target; infinite if none is
        learned.
    misfit : array of shape ()
        Mean square of that target's residuals, in units of their scale.
    """

    relative_noise: jax.Array
    misfit: jax.Array

    def explains(self, converged: bool) -> bool:
        """Tell if a noise that goes to zero is the problem of a search."""
        if not converged:
            return bool(self.relative_noise < _NEXT_TO_NONE)
        return bool(self.relative_noise < _SMALL and self.misfit < _MET)


def measure(bnn: BNN, weights: Weights, x: Any, y: Any, row_weights: Any) -> Collapse:
    """Measure a learned noise, and the distance of the targets from the outputs."""
    of_one = density.outputs(bnn, weights, x[:1])
    if bnn.likelihood.learned_scale(of_one, weights) is None:
        return Collapse(jnp.full((), jnp.inf), jnp.ones(()))
    sd = spread(y, row_weights)

    def add(total: _Total, x: jax.Array, y: jax.Array, row_weights: jax.Array) -> _Total:
        targets, counts = jnp.reshape(y, (len(y), -1)), row_weights[:, None]
        output = density.outputs(bnn, weights, x.astype(sd.dtype))
        learned: Any = bnn.likelihood.learned_scale(output, weights)
        mean = bnn.likelihood.mean(output, weights)
        scale, mean = (a.reshape(targets.shape) for a in (learned, mean))
        relative = jnp.where(counts > 0, scale / sd, jnp.inf).min(axis=0)
        squares = jnp.where(counts > 0, counts * ((targets - mean) / scale) ** 2, 0.0)
        return jnp.minimum(total[0], relative), total[1] + squares.sum(axis=0)

    rows, begun = (x, y, row_weights), (jnp.full_like(sd, jnp.inf), jnp.zeros_like(sd))
    at_once = rows_at_once(bnn.network, len(x))
    many = len(x) > at_once
    relative, squares = fold_rows(add, begun, rows, at_once, _join) if many else add(begun, *rows)
    which = jnp.argmin(relative)
    return Collapse(relative[which], squares[which] / row_weights.sum())


def _join(of_devices: _Total) -> _Total:
    relative, squares = of_devices
    return relative.min(axis=0), squares.sum(axis=0)


def is_hopeless(noise: Collapse, row_weights: jax.Array, tolerance) -> jax.Array:
    """Tell if a noise is so small that rounding alone keeps gradients above a tolerance.

    A residual is rounded at about eps times the spread of the targets. This changes a row's
    gradient by that over the squared noise, and the sum over rows by as much times the root of
    their number.
    """
    eps = jnp.finfo(row_weights.dtype).eps
    return noise.relative_noise < jnp.sqrt(eps * jnp.sqrt(row_weights.sum()) / tolerance)


def spread(targets: Any, row_weights: Any) -> jax.Array:
    """Compute every target's sd over the rows that count; its size if constant, or 1 if 0."""
    y, counts = jnp.reshape(targets, (len(targets), -1)), jnp.asarray(row_weights)[:, None]
    total = jnp.maximum(counts.sum(), jnp.finfo(y.dtype).tiny)
    mean = (counts * y).sum(axis=0) / total
    sd = jnp.sqrt((counts * (y - mean) ** 2).sum(axis=0) / total)
    rounding = jnp.finfo(y.dtype).eps * len(y) * jnp.abs(mean)
    size = jnp.where(mean == 0, 1.0, jnp.abs(mean))
    return jnp.where(sd > rounding, sd, size)
