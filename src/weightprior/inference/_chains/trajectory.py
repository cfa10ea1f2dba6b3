"""Length of a chain's trajectories: as long as its slowest output takes to turn.

In units of single weights' sds no one length suits all posteriors. If many weights have to move
together for the function to change, an output needs several times as long as if each moves it by
itself. So the time is learned from the outputs, whose draws are what the chain is run for.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Trajectory", "begin", "count", "learn", "meetings"]

# Where the windows begin and end, in percent of the warm-up. Of a slow chain a window sees too
# little of the variance, so each comes nearer to the time than the one before.
_WINDOWS = (15, 35, 65, 85)
# Draws of a chain without which a window says nothing.
_MIN_DRAWS_FOR_TIME = 10
# Mean time to begin with, in sds of the posterior, and how far it may be from that.
_FIRST_TIME, _MIN_TIME, _MAX_TIME = 0.4, 0.2, 12.8
# Factor by which a window may change it.
_FACTOR = 4.0
# How far the slowest output is to go round, in radians; it has turned after half of pi.
_ANGLE = 1.5
# An output that goes round fast may hold a slow part, which shows only between draws that are far
# apart: so many, and beyond so many standard errors of a correlation that is none.
_LAG, _MIN_ERRORS_FROM_ZERO = 10, 2.5


class Trajectory(NamedTuple):
    """Everything that was learned so far; arrays of JAX, or on the host of NumPy.

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
    """Nothing learned yet; `outputs` is an array of their shape."""
    none = jnp.zeros_like(outputs)
    last, jumps = (jnp.zeros((count, *outputs.shape), outputs.dtype) for count in (_LAG, 2))
    first = jnp.asarray(_FIRST_TIME, outputs.dtype)
    return Trajectory(first, jnp.zeros((), jnp.int32), last, none, none, jumps)


def meetings(num_warmup: int) -> list[int]:
    """Numbers of iterations after which chains learn from all that they have counted."""
    return [share * num_warmup // 100 for share in _WINDOWS[1:]]


def count(trajectory: Trajectory, outputs, iteration, num_warmup) -> Trajectory:
    """Count a draw, whose outputs ``outputs()`` returns, where a window is open."""
    begins, *_, ends = (share * num_warmup // 100 for share in _WINDOWS)
    inside = (iteration >= begins) & (iteration < ends)
    return jax.lax.cond(inside, lambda: _counted(trajectory, outputs()), lambda: trajectory)


def learn(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """Give chains of one posterior the geometric mean of the times that each would take.

    A normal output that goes round its mean by an angle a per trajectory has the autocorrelation
    cos(a), for a chain's momentum says nothing of where it stands, however much of it is kept.
    Between draws k apart that of a slow output is about the k-th power, or less where momentum is
    kept. The mean square of its jumps is 2 variances, less that share.

    References
    ----------
    The time is chosen for the slowest direction, as in P. Sountsov and M. D. Hoffman, Focusing on
    difficult directions for learning HMC trajectory lengths, 2021; which directions count is known
    here, where theirs has to find it. :doi:`10.48550/arXiv.2110.11576`
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
    """Time in which the slowest output turns; as it is where none varies."""
    count, before = int(trajectory.num_seen), float(trajectory.time)
    squares, jumps = (
        np.asarray(a, np.float64) for a in (trajectory.sum_of_squares, trajectory.sum_of_jumps)
    )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        variance, (next_jumps, far_jumps) = squares / count, jumps
        near = 1.0 - next_jumps / (2 * variance * (count - 1))
        far = 1.0 - far_jumps / (2 * variance * max(count - _LAG, 1))
    # One that never varies, or overflows, tells nothing.
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
    """Nothing counted yet."""
    return Trajectory(trajectory.time, *(np.zeros_like(counted) for counted in trajectory[1:]))
