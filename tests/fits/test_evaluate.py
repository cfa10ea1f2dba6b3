"""Draws are evaluated in batches that suit the number of rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightprior as wp
from shared_fits import FRAME, REGRESSION, ROUNDING, TARGET, random_weights
from weightprior.fits import evaluate as evaluation
from weightprior.fits import programs, results

WEIGHTS = random_weights(REGRESSION, np.random.default_rng(0), (2, 35))
GIVEN = (FRAME.to_numpy(), TARGET, wp.normal_prior(REGRESSION), np.ones(len(TARGET)))


@pytest.mark.parametrize("at_once", [1, 7, 64, 1000])
def test_the_size_of_a_batch_does_not_matter(at_once):
    one, other = (
        evaluation.evaluate(results._densities_of_draw, REGRESSION, WEIGHTS, *GIVEN, at_once=size)
        for size in (None, at_once)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **ROUNDING), one, other)
    assert one["log_likelihood"]["y"].shape == (2, 35, len(TARGET))


def test_many_rows_take_no_more_memory_than_one_draw_needs():
    rows, width, num_draws = 100_000, 50, 200
    bnn = wp.BNN(wp.mlp(8, hidden=(width,)), wp.Gaussian())
    given = (np.ones((rows, 8)), np.ones(rows), wp.normal_prior(bnn), np.ones(rows))
    weights = {name: np.ones((num_draws, *site.shape)) for name, site in bnn.sites.items()}
    assert evaluation._draws_at_once(bnn, given) == 1
    draw = {name: w[0] for name, w in weights.items()}
    with jax.enable_x64(True):
        program = evaluation._program(results._joint_of_draw, (bnn, given), draw, 1, once=False)
    used = program.executable.result().memory_analysis().temp_size_in_bytes
    one_draw = 8 * rows * width
    # What goes into the activations of a draw, what comes out, and some of the rows' own numbers.
    assert used < 4 * one_draw


def test_the_number_of_draws_compiles_nothing():
    few, many = ({n: w[:, :k] for n, w in WEIGHTS.items()} for k in (3, 35))
    evaluation.evaluate(results._joint_of_draw, REGRESSION, few, *GIVEN)
    before = programs._compile_once.cache_info().misses
    found = evaluation.evaluate(results._joint_of_draw, REGRESSION, many, *GIVEN)
    assert programs._compile_once.cache_info().misses == before
    assert found["lp"]["lp"].shape == (2, 35)


def _key_of_draw(bnn, number, key):
    return jax.random.key_data(jax.random.fold_in(key, number))


def test_numbered_draws_have_the_keys_that_split_makes():
    key = jax.random.key(3)
    found = evaluation.evaluate(_key_of_draw, REGRESSION, evaluation.numbered(2, 5), key)
    np.testing.assert_array_equal(found, jax.random.key_data(jax.random.split(key, (2, 5))))


def _shifted(bnn, draw, shift):
    return draw["output.bias"].sum() + shift


def test_numbers_that_jax_holds_keep_their_precision():
    """Of no strict type, they would be compiled for in double precision, and passed in single."""
    shift = jnp.asarray(0.5)
    assert shift.weak_type
    found = evaluation.evaluate(_shifted, REGRESSION, WEIGHTS, shift)
    expected = WEIGHTS["output.bias"].sum(axis=tuple(range(2, WEIGHTS["output.bias"].ndim))) + 0.5
    np.testing.assert_allclose(found, expected, rtol=1e-12)
