"""Length of a chain's trajectories: the time that its slowest output takes to turn.

In units of single weights' sds, no single length suits all posteriors. If many weights must move
together to change the function, an output needs several times as long as if each weight moves it
alone. So the time is learned from the outputs: draws of these are the aim of a chain.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Trajectory", "begin", "count", "learn", "meetings"]

# Limits of the windows, in percent of the warm-up. With a slow chain, a window sees too little of
# the variance, so each window comes nearer to the right time than the one before.
_WINDOWS = (15, 35, 65, 85)
# With fewer draws of a chain, a window says nothing.
_MIN_DRAWS_FOR_TIME = 10
# First mean time, in sds of the posterior, and its limits.
_FIRST_TIME, _MIN_TIME, _MAX_TIME = 0.4, 0.2, 12.8
# Largest factor by which a window may change the time.
_FACTOR = 4.0
# Angle by which the slowest output should turn, in radians; after half of pi it has turned.
_ANGLE = 1.5
# An output that turns fast may contain a slow part. It shows only between draws this far apart, if
# the correlation exceeds this many standard errors of a zero correlation.
_LAG, _MIN_ERRORS_FROM_ZERO = 10, 2.5


class Trajectory(NamedTuple):
    """State of the adaptation so far; arrays of JAX, or of NumPy on the host.

    Attributes
    ----------
    time : array of shape ()
        Mean time of the trajectories, in sds of the posterior.
    num_seen : array of shape ()
        Draws seen in this window.
    last : array of shape (lag, outputs)
        Outputs of the latest draws, the last one first.
    mean, sum_of_squares : array of shape (outputs,)
        Moments of the outputs seen in this window; the squares around the mean.
    sum_of_jumps : array of shape (2, outputs)
        Sums of squared differences between a draw and the next, and between draws a lag apart.
    """

    time: Any
    num_seen: Any
    last: Any
    mean: Any
    sum_of_squares: Any
    sum_of_jumps: Any


def begin(outputs: jax.Array) -> Trajectory:
    """Return a state with nothing learned yet; `outputs` is an array of the outputs' shape."""
    none = jnp.zeros_like(outputs)
    last, jumps = (jnp.zeros((count, *outputs.shape), outputs.dtype) for count in (_LAG, 2))
    first = jnp.asarray(_FIRST_TIME, outputs.dtype)
    return Trajectory(first, jnp.zeros((), jnp.int32), last, none, none, jumps)


def meetings(num_warmup: int) -> list[int]:
    """Return the iterations after which chains learn from all that they have counted."""
    return [share * num_warmup // 100 for share in _WINDOWS[1:]]


def count(trajectory: Trajectory, outputs, iteration, num_warmup) -> Trajectory:
    """Count a draw if a window is open; ``outputs()`` returns its outputs."""
    begins, *_, ends = (share * num_warmup // 100 for share in _WINDOWS)
    inside = (iteration >= begins) & (iteration < ends)
    return jax.lax.cond(inside, lambda: _counted(trajectory, outputs()), lambda: trajectory)


def learn(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """Set the time of chains of one posterior to the geometric mean of their own times.

    A normal output that turns around its mean by an angle a per trajectory has the autocorrelation
    cos(a): a chain's momentum says nothing about its position, however much of it is kept. Between
    draws k apart, the autocorrelation of a slow output is about the k-th power of this, or less if
    momentum is kept. The mean square of its jumps is 2 variances, times one less the
    autocorrelation.

    References
    ----------
    The time is chosen for the slowest direction, as in P. Sountsov and M. D. Hoffman, Focusing on
    difficult directions for learning HMC trajectory lengths, 2021; here the directions that count
    are known, while their method must find them. :doi:`10.48550/arXiv.2110.11576`
    """
    if trajectories[0].num_seen < _MIN_DRAWS_FOR_TIME:
        return list(trajectories)
    time = np.exp(np.mean([np.log(_time(one)) for one in trajectories]))
    return [_emptied(one)._replace(time=time.astype(one.time.dtype)) for one in trajectories]


def _counted(trajectory: Trajectory, outputs: jax.Array) -> Trajectory:
    num_seen = trajectory.num_seen + 1
    apart = outputs - trajectory.mean
    mean = trajectory.mean + apart / num_seen
    from_next, from_far = outputs - trajectory.last[0], outputs - trajectory.last[-1]
    jumps = [jnp.where(num_seen > 1, from_next, 0.0), jnp.where(num_seen > _LAG, from_far, 0.0)]
    return trajectory._replace(
        num_seen=num_seen,
        last=jnp.concatenate([outputs[None], trajectory.last[:-1]]),
        mean=mean,
        sum_of_squares=trajectory.sum_of_squares + apart * (outputs - mean),
        sum_of_jumps=trajectory.sum_of_jumps + jnp.square(jnp.stack(jumps)),
    )


def _time(trajectory: Trajectory) -> float:
    """Return the time in which the slowest output turns; unchanged if no output varies."""
    count, before = int(trajectory.num_seen), float(trajectory.time)
    squares, jumps = (
        np.asarray(a, np.float64) for a in (trajectory.sum_of_squares, trajectory.sum_of_jumps)
    )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        variance, (next_jumps, far_jumps) = squares / count, jumps
        near = 1.0 - next_jumps / (2 * variance * (count - 1))
        far = 1.0 - far_jumps / (2 * variance * max(count - _LAG, 1))
    # An output that never varies, or overflows, says nothing.
    told = np.isfinite(near) & np.isfinite(far)
    if not told.any():
        return before
    beyond_noise = np.maximum(far[told] - _MIN_ERRORS_FROM_ZERO / np.sqrt(count), 0.0)
    slow = np.where((beyond_noise > 0) & (count > _LAG), beyond_noise ** (1 / _LAG), -1.0)
    cosine = np.clip(np.maximum(near[told], slow).max(), -1.0, 1.0)
    angle = np.maximum(np.arccos(cosine), np.finfo(float).tiny)
    factor = np.clip(_ANGLE / angle, 1 / _FACTOR, _FACTOR)
    return float(np.clip(before * factor, _MIN_TIME, _MAX_TIME))


def _emptied(trajectory: Trajectory) -> Trajectory:
    """Return a state with the same time and empty counts."""
    return Trajectory(trajectory.time, *(np.zeros_like(counted) for counted in trajectory[1:]))
