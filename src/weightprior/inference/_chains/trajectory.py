"""Length of a chain's trajectories: as long as its slowest output takes to turn.

In units of single weights' sds no one length suits all posteriors. Where many weights have to move
together for the function to change, an output needs several times as long as where each moves it by
itself. So the time is learned from the outputs, whose draws are what the chain is run for.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Trajectory", "adapt_trajectory_length", "begin"]

# Where the windows begin and end, as shares of the warm-up. Of a slow chain a window sees too
# little of the variance, so each comes nearer to the time than the one before.
_WINDOWS = (0.15, 0.35, 0.65, 0.85)
# Draws without which a window says nothing.
_MIN_DRAWS_FOR_TIME = 10
# Mean time to begin with, in sds of the posterior, and how far it may be from that.
_FIRST_TIME, _MIN_TIME, _MAX_TIME = 0.4, 0.2, 12.8
# What a window may change it by.
_FACTOR = 4.0
# How far the slowest output is to go round, in radians; it has turned after half of pi.
_ANGLE = 1.5
# An output that goes round fast may hold a slow part, which shows only between draws that are far
# apart: so many, and beyond so many standard errors of a correlation that is none.
_LAG, _MIN_ERRORS_FROM_ZERO = 10, 2.5


class Trajectory(NamedTuple):
    """Everything that was learned so far.

    Attributes
    ----------
    time : array of shape ()
        Mean time of the trajectories, in sds of the posterior.
    num_seen : array of shape ()
        Draws seen in this window.
    last : array of shape (lag, outputs)
        Outputs of the latest draws, the last one first.
    mean, sum_of_squares : array of shape (outputs,)
        Of the outputs seen in this window; the squares around the mean.
    sum_of_jumps : array of shape (2, outputs)
        Of squared differences between a draw and the next, and between those a lag apart.
    """

    time: jax.Array
    num_seen: jax.Array
    last: jax.Array
    mean: jax.Array
    sum_of_squares: jax.Array
    sum_of_jumps: jax.Array


def begin(outputs: jax.Array) -> Trajectory:
    """Nothing learned yet; `outputs` is an array of their shape."""
    none = jnp.zeros_like(outputs)
    last, jumps = (jnp.zeros((count, *outputs.shape), outputs.dtype) for count in (_LAG, 2))
    first = jnp.asarray(_FIRST_TIME, outputs.dtype)
    return Trajectory(first, jnp.zeros((), jnp.int32), last, none, none, jumps)


def adapt_trajectory_length(trajectory: Trajectory, outputs, iteration, num_warmup) -> Trajectory:
    """Count a draw, whose outputs ``outputs()`` returns; at the end of a window, learn from it.

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
    begins, *ends = (jnp.int32(share * num_warmup) for share in _WINDOWS)
    inside = (iteration >= begins) & (iteration < ends[-1])
    counted = jax.lax.cond(inside, lambda: _counted(trajectory, outputs()), lambda: trajectory)
    full = jnp.any(iteration + 1 == jnp.stack(ends))
    learned = inside & full & (counted.num_seen >= _MIN_DRAWS_FOR_TIME)
    return jax.tree.map(lambda a, b: jnp.where(learned, a, b), _with_time(counted), counted)


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


def _with_time(trajectory: Trajectory) -> Trajectory:
    count = trajectory.num_seen.astype(trajectory.mean.dtype)
    variance = trajectory.sum_of_squares / count
    next_jumps, far_jumps = trajectory.sum_of_jumps
    near = 1.0 - next_jumps / (2 * variance * (count - 1))
    far = 1.0 - far_jumps / (2 * variance * jnp.maximum(count - _LAG, 1))
    beyond_noise = jnp.maximum(far - _MIN_ERRORS_FROM_ZERO / jnp.sqrt(count), 0.0)
    slow = jnp.where((beyond_noise > 0) & (count > _LAG), beyond_noise ** (1 / _LAG), -1.0)
    # One that never varies, or overflows, tells nothing.
    told = jnp.isfinite(near) & jnp.isfinite(far)
    cosine = jnp.max(jnp.where(told, jnp.maximum(near, slow), -1.0))
    factor = jnp.clip(_ANGLE / jnp.arccos(jnp.clip(cosine, -1.0, 1.0)), 1 / _FACTOR, _FACTOR)
    time = jnp.clip(trajectory.time * factor, _MIN_TIME, _MAX_TIME).astype(trajectory.time.dtype)
    return begin(trajectory.mean)._replace(time=jnp.where(told.any(), time, trajectory.time))
