"""Adaptation of chains to their posterior while they warm up: lengths, and the size of a step.

The first part of the warm-up only finds the posterior. Two windows follow, at the end of each of
which the lengths of all chains become those seen in it by any, and then the step sizes settle.

Chains count inside the compiled program. They learn on the host, which compiles nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Adaptation", "adapt_step_size", "begin", "count", "learn", "meetings"]

# Where the windows begin and end, in percent of the warm-up.
_WINDOWS = (15, 35, 65)
# Draws without which a window says nothing.
_MIN_DRAWS_FOR_METRIC = 10
# Gains of the search for a step size: ever smaller, yet their sum without bound.
_GAIN, _DELAY, _DECAY = 2.0, 2.0, 0.7
# Limits of a variance of gradients, and of a length.
_LEAST_VARIANCE, _LENGTHS = 1e-10, (1e-20, 1e20)


class Adaptation(NamedTuple):
    """Everything that was learned so far; arrays of JAX, or on the host of NumPy.

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
        Moments of positions and gradients seen in this window; the squares around the mean.
    """

    inverse_mass: Any
    log_step_size: Any
    num_steps: Any
    num_seen: Any
    mean: Any
    sum_of_squares: Any


def begin(position: jax.Array, step_size: jax.Array) -> Adaptation:
    """Nothing learned yet but a step size that is not absurd."""
    zero = jnp.zeros((), jnp.int32)
    empty = jnp.zeros((2, position.size), position.dtype)
    return Adaptation(jnp.ones_like(position), jnp.log(step_size), zero, zero, empty, empty)


def meetings(num_warmup: int) -> list[int]:
    """Numbers of iterations after which chains learn from all that they have counted."""
    return [share * num_warmup // 100 for share in _WINDOWS[1:]]


def count(
    adaptation: Adaptation, position: jax.Array, gradient: jax.Array, iteration, num_warmup
) -> Adaptation:
    """Count a draw, where a window is open; nothing is added elsewhere."""
    begins, *_, ends = (share * num_warmup // 100 for share in _WINDOWS)
    inside = (iteration >= begins) & (iteration < ends)
    num_seen = adaptation.num_seen + inside.astype(adaptation.num_seen.dtype)
    seen = jnp.stack([position, gradient])
    apart = jnp.where(inside, seen - adaptation.mean, jnp.zeros_like(seen))
    mean = adaptation.mean + apart / jnp.maximum(num_seen, 1).astype(seen.dtype)
    squares = adaptation.sum_of_squares + apart * (seen - mean)
    return adaptation._replace(num_seen=num_seen, mean=mean, sum_of_squares=squares)


def learn(adaptations: Sequence[Adaptation]) -> list[Adaptation]:
    """Give chains of one posterior the lengths that they have seen together.

    The length of a coordinate is the fourth root of the variance of its position over that of its
    gradient, which agrees with its sd where the posterior is normal and is held back where the
    curvature is more than the sd suggests. A chain that did not move has seen nothing.

    References
    ----------
    A. Seyboldt, E. L. Carlson and B. Carpenter, Preconditioning Hamiltonian Monte Carlo by
    minimizing Fisher divergence, 2026. :doi:`10.48550/arXiv.2603.18845`
    """
    moved = [a for a in adaptations if np.all(a.sum_of_squares[0] > 0)]
    num_seen = sum(int(a.num_seen) for a in moved)
    if num_seen < _MIN_DRAWS_FOR_METRIC:
        return list(adaptations)
    squares = np.sum([np.asarray(a.sum_of_squares, np.float64) for a in moved], axis=0)
    variance, of_gradient = squares / num_seen
    shape = np.sqrt(variance / np.maximum(of_gradient, _LEAST_VARIANCE)).clip(*_LENGTHS)
    inverse_mass = shape * np.mean(variance / shape)
    if not np.all(np.isfinite(inverse_mass) & (inverse_mass > 0)):
        return list(adaptations)
    return [_with_lengths(a, inverse_mass) for a in adaptations]


def adapt_step_size(adaptation: Adaptation, excess: jax.Array, iteration, num_warmup) -> Adaptation:
    """Lengthen the step where `excess` is positive, during the warm-up.

    Steps of stochastic approximation: the size settles where the mean excess is zero. Its last
    value is used, rather than a mean over a path that overshoots.

    References
    ----------
    H. Robbins and S. Monro, A stochastic approximation method, 1951.
    :doi:`10.1214/aoms/1177729586`
    """
    tunes = (iteration >= 0) & (iteration < num_warmup)
    num_steps = adaptation.num_steps + tunes.astype(adaptation.num_steps.dtype)
    gain = jnp.where(tunes, _GAIN / (num_steps + _DELAY) ** _DECAY, 0.0)
    step = (gain * excess).astype(adaptation.mean.dtype)
    return adaptation._replace(log_step_size=adaptation.log_step_size + step, num_steps=num_steps)


def _with_lengths(adaptation: Adaptation, inverse_mass: np.ndarray) -> Adaptation:
    """In the new units a step of the same length, on average over coordinates."""
    grown = np.mean(np.log(inverse_mass) - np.log(adaptation.inverse_mass)) / 2
    dtype = adaptation.inverse_mass.dtype
    nothing = np.zeros_like(adaptation.mean)
    return Adaptation(
        inverse_mass.astype(dtype),
        np.asarray(adaptation.log_step_size - grown, dtype),
        np.zeros_like(adaptation.num_steps),
        np.zeros_like(adaptation.num_seen),
        nothing,
        nothing,
    )
