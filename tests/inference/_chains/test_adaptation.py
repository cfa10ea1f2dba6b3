import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightprior.inference._chains import adaptation as _adaptation

NUM_WARMUP = 1000


def adapted(excess, moves=None, num_warmup=NUM_WARMUP, iterations=NUM_WARMUP):
    """What is learned where a step of log size h brings ``excess(h, noise)``."""
    size = 3

    def iterate(state, i):
        key = jax.random.fold_in(jax.random.key(0), i)
        noise = jax.random.normal(key, (size,))
        state = _adaptation.adapt_step_size(
            state, excess(state.log_step_size, noise[0]), i, num_warmup
        )
        if moves is not None:
            state = _adaptation.count(state, *moves(noise), i, num_warmup)
        return state, state.log_step_size

    state, path = _adaptation.begin(jnp.zeros(size), jnp.asarray(0.1)), []
    meetings = [at for at in _adaptation.meetings(num_warmup) if at < iterations]
    for begins, ends in itertools.pairwise([0, *meetings, iterations]):
        state, piece = jax.lax.scan(iterate, state, jnp.arange(begins, ends))
        path.append(piece)
        if ends in meetings:
            [state] = _adaptation.learn([jax.device_get(state)])
    return state, np.concatenate(path)


@pytest.mark.parametrize("start", [-6.0, 6.0])
def test_the_step_size_settles_where_the_excess_is_zero(start):
    root = np.log(0.1) + start
    final, path = adapted(lambda h, noise: jnp.tanh(root - h) + 0.3 * noise)
    # The last gain is 2 / 1002^0.7 = 0.016: with slope 1 and noise 0.3 the size varies around
    # the root by about sqrt(0.016 * 0.3^2 / 2) = 0.027.
    assert abs(path[-1] - root) < 5 * 0.027
    assert final.num_steps == NUM_WARMUP


def test_nothing_is_learned_after_the_warm_up():
    final, path = adapted(
        lambda h, noise: noise,
        lambda noise: (noise, noise),
        num_warmup=20,
        iterations=50,
    )
    assert np.all(path[20:] == path[19])
    assert final.num_steps < 20 + 1


def test_lengths_are_the_sds_of_a_normal_posterior():
    sd = jnp.array([0.01, 1.0, 3.0])
    # Position and gradient of independent draws from it.
    final, _ = adapted(lambda h, noise: 0.0 * noise, lambda noise: (sd * noise, -noise / sd))
    squared = final.inverse_mass / sd**2
    np.testing.assert_allclose(squared, squared.mean(), rtol=1e-4)
    # In units of sds their mean is that of the variances seen: of 3 x 300 draws.
    np.testing.assert_allclose(squared.mean(), 1.0, atol=5 * np.sqrt(2 / 900))


def test_a_direction_that_is_stiffer_than_it_is_wide_gets_a_shorter_length():
    final, _ = adapted(
        lambda h, noise: 0.0 * noise,
        lambda noise: (noise, -noise * jnp.array([100.0, 1.0, 1.0])),
    )
    ratio = final.inverse_mass[0] / final.inverse_mass[1]
    np.testing.assert_allclose(ratio, 0.01, rtol=0.15)


def test_a_step_keeps_its_length_when_the_units_change():
    sd = jnp.array([0.5, 0.5, 0.5])
    final, path = adapted(lambda h, noise: 0.0, lambda noise: (sd * noise, -noise / sd))
    np.testing.assert_allclose(jnp.exp(path[-1]) * final.inverse_mass**0.5, 0.1, rtol=1e-3)


def test_a_chain_that_does_not_move_keeps_its_lengths():
    final, _ = adapted(lambda h, noise: 0.0, lambda noise: (0.0 * noise, 0.0 * noise))
    np.testing.assert_array_equal(final.inverse_mass, 1.0)


def test_a_short_warm_up_leaves_the_lengths():
    final, _ = adapted(lambda h, noise: 0.0, lambda noise: (noise, noise), 15, 15)
    np.testing.assert_array_equal(final.inverse_mass, 1.0)


def counted(variance, num_seen=20):
    """A chain that has seen positions of these variances, and gradients of those of a normal."""
    variance = np.asarray(variance, np.float32)
    first = jax.device_get(_adaptation.begin(jnp.zeros(variance.size), jnp.asarray(0.1)))
    squares = np.stack([variance, np.where(variance > 0, 1 / np.maximum(variance, 1e-9), 0.0)])
    return first._replace(
        num_seen=np.int32(num_seen), sum_of_squares=(num_seen * squares).astype(np.float32)
    )


def test_chains_share_what_they_have_seen():
    one, other = counted([1.0, 4.0]), counted([3.0, 4.0], 60)
    found = _adaptation.learn([one, other])
    for mine in found:
        np.testing.assert_array_equal(mine.inverse_mass, found[0].inverse_mass)
        assert mine.num_seen == 0
        assert not mine.sum_of_squares.any()
    # 20 draws of the variance 1 and 60 of 3: 2.5; of the gradient 0.5.
    lengths = np.sqrt(np.array([2.5, 4.0]) / np.array([0.5, 0.25]))
    expected = lengths * np.mean(np.array([2.5, 4.0]) / lengths)
    np.testing.assert_allclose(found[0].inverse_mass, expected, rtol=1e-6)


def test_a_chain_that_stands_still_learns_from_the_others():
    moved, still = counted([1.0, 4.0]), counted([0.0, 0.0])
    alone = _adaptation.learn([moved])[0]
    for mine in _adaptation.learn([moved, still]):
        np.testing.assert_array_equal(mine.inverse_mass, alone.inverse_mass)
