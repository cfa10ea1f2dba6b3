"""Adaptation of chains to their posterior during warm-up: lengths, and the step size.

The first part of the warm-up only finds the posterior. Two windows follow. At the end of each, all
chains take the lengths that they have seen together in it. Then the step sizes settle.

Chains count inside the compiled program. They learn on the host, where nothing is compiled.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Adaptation", "adapt_step_size", "begin", "count", "learn", "meetings"]

# Limits of the windows, in percent of the warm-up.
_WINDOWS = (15, 35, 65)
# With fewer draws, a window says nothing.
_MIN_DRAWS_FOR_METRIC = 10
# Gains of the search for a step size: decreasing, but their sum has no bound.
_GAIN, _DELAY, _DECAY = 2.0, 2.0, 0.7
# Least variance of gradients, and limits of a length.
_LEAST_VARIANCE, _LENGTHS = 1e-10, (1e-20, 1e20)


class Adaptation(NamedTuple):
    """State of the adaptation so far; arrays of JAX, or of NumPy on the host.

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
    """Return a state with nothing learned yet but a reasonable step size."""
    zero = jnp.zeros((), jnp.int32)
    empty = jnp.zeros((2, position.size), position.dtype)
    return Adaptation(jnp.ones_like(position), jnp.log(step_size), zero, zero, empty, empty)


def meetings(num_warmup: int) -> list[int]:
    """Return the iterations after which chains learn from all that they have counted."""
    return [share * num_warmup // 100 for share in _WINDOWS[1:]]


def count(
    adaptation: Adaptation, position: jax.Array, gradient: jax.Array, iteration, num_warmup
) -> Adaptation:
    """Count a draw if a window is open; otherwise add nothing."""
    begins, *_, ends = (share * num_warmup // 100 for share in _WINDOWS)
    inside = (iteration >= begins) & (iteration < ends)
    num_seen = adaptation.num_seen + inside.astype(adaptation.num_seen.dtype)
    seen = jnp.stack([position, gradient])
    apart = jnp.where(inside, seen - adaptation.mean, jnp.zeros_like(seen))
    mean = adaptation.mean + apart / jnp.maximum(num_seen, 1).astype(seen.dtype)
    squares = adaptation.sum_of_squares + apart * (seen - mean)
    return adaptation._replace(num_seen=num_seen, mean=mean, sum_of_squares=squares)


def learn(adaptations: Sequence[Adaptation]) -> list[Adaptation]:
    """Set the lengths of chains of one posterior to those that they have seen together.

    The length of a coordinate is the fourth root of the variance of its position over that of its
    gradient. It agrees with the sd if the posterior is normal, and is smaller if the curvature is
    larger than the sd suggests. A chain that did not move has seen nothing.

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
    """Lengthen the step if `excess` is positive, during the warm-up.

    This is stochastic approximation: the step size settles at a mean excess of zero. The last value
    is used, rather than a mean over a path that overshoots.

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
    """Set the lengths, and the step size such that the step stays as long, on average."""
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
