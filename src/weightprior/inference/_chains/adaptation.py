"""Adaptation of a chain to its posterior while it warms up: lengths, and the size of a step.

The first part of the warm-up only finds the posterior. Two windows follow, at the end of each of
which the chain's lengths become those seen in it, and then the step size settles.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from blackjax.adaptation.metric_estimators import fisher_score_diagonal_from_moments

__all__ = ["Adaptation", "adapt_metric", "adapt_step_size", "begin", "first_lengths"]

# Where the windows begin and end, as shares of the warm-up.
_WINDOWS = (0.15, 0.35, 0.65)
# Draws without which a window says nothing.
_MIN_DRAWS_FOR_METRIC = 10
# Gains of the search for a step size: ever smaller, yet their sum without bound.
_GAIN, _DELAY, _DECAY = 2.0, 2.0, 0.7


class Adaptation(NamedTuple):
    """Everything that was learned so far.

    Attributes
    ----------
    inverse_mass : array of shape (size,)
        Squared lengths of the coordinates: the inverse of a diagonal mass matrix. Their mean
        square in units of the posterior's variances is one, so that time counts in its sds.
    log_step_size : array of shape ()
        The step size in use.
    num_steps : array of shape ()
        Iterations since the step size began anew.
    num_seen : array of shape ()
        Draws seen in this window.
    mean, sum_of_squares : array of shape (2, size)
        Of positions and gradients seen in this window; the squares around the mean.
    """

    inverse_mass: jax.Array
    log_step_size: jax.Array
    num_steps: jax.Array
    num_seen: jax.Array
    mean: jax.Array
    sum_of_squares: jax.Array


def begin(position: jax.Array, step_size: jax.Array) -> Adaptation:
    """Nothing learned yet but a step size that is not absurd."""
    zero = jnp.zeros((), jnp.int32)
    empty = jnp.zeros((2, position.size), position.dtype)
    return Adaptation(jnp.ones_like(position), jnp.log(step_size), zero, zero, empty, empty)


def first_lengths(num_warmup: jax.Array) -> jax.Array:
    """The iteration from which lengths are those of the posterior."""
    return jnp.int32(_WINDOWS[1] * num_warmup)


def adapt_metric(
    adaptation: Adaptation, position: jax.Array, gradient: jax.Array, iteration, num_warmup
) -> Adaptation:
    """Count a draw; at the end of a window, turn what was seen into lengths.

    The length of a coordinate is the fourth root of the variance of its position over that of its
    gradient, which agrees with its sd where the posterior is normal and is held back where the
    curvature is more than the sd suggests.

    References
    ----------
    The estimator is blackjax's, where its sources stand.
    """
    begins, *ends = (jnp.int32(share * num_warmup) for share in _WINDOWS)
    inside = (iteration >= begins) & (iteration < ends[-1])
    seen = jnp.stack([position, gradient])
    num_seen = adaptation.num_seen + 1
    mean = adaptation.mean + (seen - adaptation.mean) / num_seen
    squares = adaptation.sum_of_squares + (seen - adaptation.mean) * (seen - mean)
    counted = adaptation._replace(num_seen=num_seen, mean=mean, sum_of_squares=squares)
    full = (iteration + 1 == ends[0]) | (iteration + 1 == ends[1])
    adaptation = _choose(inside, counted, adaptation)
    return _choose(
        inside & full & (num_seen >= _MIN_DRAWS_FOR_METRIC), _with_lengths(adaptation), adaptation
    )


def adapt_step_size(adaptation: Adaptation, excess: jax.Array, iteration, num_warmup) -> Adaptation:
    """Lengthen the step where `excess` is positive, during the warm-up.

    Steps of stochastic approximation: the size settles where the mean excess is zero, and its last
    value, rather than a mean over a path that overshoots, is what is used.

    References
    ----------
    H. Robbins and S. Monro, A stochastic approximation method, 1951.
    :doi:`10.1214/aoms/1177729586`
    """
    num_steps = adaptation.num_steps + 1
    gain = _GAIN / (num_steps + _DELAY) ** _DECAY
    moved = adaptation._replace(
        log_step_size=adaptation.log_step_size + (gain * excess).astype(adaptation.mean.dtype),
        num_steps=num_steps,
    )
    return _choose((iteration >= 0) & (iteration < num_warmup), moved, adaptation)


def _with_lengths(adaptation: Adaptation) -> Adaptation:
    variance, gradient_variance = adaptation.sum_of_squares / adaptation.num_seen
    shape = fisher_score_diagonal_from_moments(variance, gradient_variance)
    inverse_mass = shape * jnp.mean(variance / shape)
    # A chain that did not move has seen nothing.
    useful = jnp.all(jnp.isfinite(inverse_mass) & (inverse_mass > 0) & (variance > 0))
    # In the new units a step of the same length, on average over coordinates.
    grown = 0.5 * jnp.mean(jnp.log(inverse_mass) - jnp.log(adaptation.inverse_mass))
    new = begin(adaptation.inverse_mass, jnp.exp(adaptation.log_step_size - grown))
    return _choose(useful, new._replace(inverse_mass=inverse_mass), adaptation)


def _choose(condition: jax.Array, new: Adaptation, old: Adaptation) -> Adaptation:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
