import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightprior.inference._chains import hmc as _hmc
from weightprior.inference._chains import trajectory as _trajectory

NUM_WARMUP = 2000


def learned(angle_per_time, num_warmup=NUM_WARMUP, iterations=NUM_WARMUP, size=1, mix=None):
    """The time that is learned where outputs go round their mean by an angle per trajectory.

    With `mix` they are the parts, so weighted, of a single one.
    """
    size = size if mix is None else len(mix)
    scale, (least, most) = jnp.linspace(1.0, 3.0, size), _hmc._INTEGRATION_TIME

    def iterate(carry, i):
        trajectory, output = carry
        key_time, key_noise = jax.random.split(jax.random.fold_in(jax.random.key(0), i))
        # As a kernel's: with one time for all, an output that comes full circle looks still.
        time = trajectory.time * jax.random.uniform(key_time, (), minval=least, maxval=most)
        angle, noise = angle_per_time * time, jax.random.normal(key_noise, (size,))
        output = jnp.cos(angle) * output + jnp.sin(angle) * noise
        seen = scale * output if mix is None else jnp.dot(mix, output)[None]
        trajectory = _trajectory.count(trajectory, lambda: seen, i, num_warmup)
        return (trajectory, output), trajectory.time

    trajectory, output = _trajectory.begin(jnp.zeros(size if mix is None else 1)), jnp.zeros(size)
    times, meetings = [], [at for at in _trajectory.meetings(num_warmup) if at < iterations]
    for begins, ends in itertools.pairwise([0, *meetings, iterations]):
        numbers = jnp.arange(begins, ends)
        (trajectory, output), piece = jax.lax.scan(iterate, (trajectory, output), numbers)
        times.append(piece)
        if ends in meetings:
            [trajectory] = _trajectory.learn([jax.device_get(trajectory)])
    return np.concatenate(times)


@pytest.mark.parametrize("angle", [0.3, 0.8, 1.5])
def test_the_slowest_output_is_taken_so_far_round(angle):
    speed = jnp.asarray([angle, 3.0 * angle]) / _trajectory._FIRST_TIME
    times = learned(speed, size=2)
    # Of the last window, 400 draws about independent: 1 - cos(a) = 0.93 is known to 7 %, and the
    # angle of 1.5 to the same over its derivative, sin(a) = 1: 5 %.
    expected = _trajectory._ANGLE / float(speed[0])
    assert times[-1] == pytest.approx(expected, rel=5 * 0.05)
    assert times[0] == pytest.approx(_trajectory._FIRST_TIME)


def test_of_slow_outputs_every_window_brings_the_time_nearer():
    times = learned(jnp.asarray([0.05]) / _trajectory._FIRST_TIME)
    changes = times[np.flatnonzero(np.diff(times)) + 1]
    assert len(changes) >= 2
    assert np.all(np.diff([_trajectory._FIRST_TIME, *changes]) > 0)
    assert changes[0] <= _trajectory._FACTOR * _trajectory._FIRST_TIME * (1 + 1e-6)
    assert changes[-1] <= _trajectory._MAX_TIME


def test_a_slow_part_of_a_fast_output_is_seen():
    """A third of its variance takes ten times as long; of the jump to the next draw, a tenth."""
    speed = jnp.asarray([1.5, 0.15]) / _trajectory._FIRST_TIME
    # Mixed by weights whose squares are the shares of the variance.
    mixed = learned(speed, mix=jnp.sqrt(jnp.asarray([2.0, 1.0]) / 3.0))
    alone = learned(speed[:1])
    assert mixed[-1] > 1.5 * alone[-1]


def test_outputs_that_never_vary_leave_the_time():
    times = learned(jnp.asarray([0.0]))
    np.testing.assert_array_equal(times, times[0])


def test_nothing_is_learned_in_a_short_warm_up_or_after_it():
    speed = jnp.asarray([0.2])
    short = learned(speed, num_warmup=10, iterations=60)
    np.testing.assert_array_equal(short, short[0])
    after = learned(speed, num_warmup=200, iterations=400)
    assert after[199] != after[0]
    np.testing.assert_array_equal(after[199:], after[199])


def test_chains_take_the_geometric_mean_of_their_times():
    def counted(jump):
        first = jax.device_get(_trajectory.begin(jnp.zeros(1)))
        of_one = {"sum_of_squares": np.ones(1, np.float32) * 50, "num_seen": np.int32(50)}
        jumps = np.asarray([[jump * 50], [2.0 * 50]], np.float32)
        return first._replace(sum_of_jumps=jumps, **of_one)

    alone = [_trajectory.learn([counted(jump)])[0].time for jump in (0.5, 1.5)]
    both = _trajectory.learn([counted(0.5), counted(1.5)])
    for one in both:
        np.testing.assert_allclose(one.time, np.sqrt(alone[0] * alone[1]), rtol=1e-6)
        assert one.num_seen == 0
