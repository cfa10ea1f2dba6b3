"""Draws are evaluated in batches that suit the number of rows."""

import jax
import numpy as np
import pytest

import weightprior as wp
from shared_fits import FRAME, REGRESSION, ROUNDING, TARGET, random_weights
from weightprior.fits import evaluate as evaluation
from weightprior.fits import results
from weightprior.model import density

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
    batch = {name: evaluation._Host(w[:1]) for name, w in weights.items()}
    with jax.enable_x64(True):
        program = evaluation._evaluate.lower(results._joint_of_draw, bnn, given, batch)
        used = program.compile().memory_analysis().temp_size_in_bytes
    one_draw = 8 * rows * width
    # What goes into the activations of a draw, what comes out, and some of the rows' own numbers.
    assert used < 4 * one_draw


def test_the_number_of_draws_compiles_nothing():
    few, many = ({n: w[:, :k] for n, w in WEIGHTS.items()} for k in (3, 35))
    evaluation.evaluate(results._joint_of_draw, REGRESSION, few, *GIVEN)
    before = evaluation._evaluate._cache_size()
    found = evaluation.evaluate(results._joint_of_draw, REGRESSION, many, *GIVEN)
    assert evaluation._evaluate._cache_size() == before
    assert found["lp"]["lp"].shape == (2, 35)


def _noisy(bnn, draw, x):
    weights, key = draw
    return density.outputs(bnn, weights, x)[:, 0] + jax.random.normal(key, len(x))


def test_keys_are_draws_like_others():
    keys = jax.random.split(jax.random.key(3), (2, 35))
    found = evaluation.evaluate(_noisy, REGRESSION, (WEIGHTS, keys), FRAME.to_numpy())
    with jax.enable_x64(True):
        one = {name: w[1, 4] for name, w in WEIGHTS.items()}
        expected = _noisy(REGRESSION, (one, keys[1, 4]), FRAME.to_numpy())
    np.testing.assert_allclose(found[1, 4], expected, **ROUNDING)
