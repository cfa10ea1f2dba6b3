import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import weightprior as wp
from problems import LINEAR, LINEAR_PRIORS, exact
from shared_fits import LIKELIHOODS, law, mean, random_weights
from weightprior.model import density
from weightprior.model.curvature import gauss_newton, well_determined

RNG = np.random.default_rng(3)
X = RNG.normal(size=(7, 2))
ROUNDING = {"rtol": 1e-9, "atol": 1e-9}

pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


@jax.jit
def information_of(weights, bnn, x, row_weights):
    position, unravel = ravel_pytree(weights)
    shape = density.targets(bnn, weights, x).shape()
    return gauss_newton(bnn, unravel, position, x, jnp.full(shape, jnp.nan), row_weights)


def information(bnn, weights, x, row_weights=None):
    """Expected information, which depends on no target: so every target is NaN."""
    counts = np.ones(len(x)) if row_weights is None else np.asarray(row_weights, float)
    return np.asarray(information_of(weights, bnn, x, counts))


shares_of = jax.jit(well_determined)


def drawn_targets(bnn, weights, draws):
    """Targets of all rows, from the model, by scipy."""
    if isinstance(bnn.likelihood, wp.Categorical):
        shares = mean(bnn, weights, X)
        return np.stack([RNG.choice(p.size, draws, p=p) for p in shares], axis=1)
    given = law(bnn, weights, X)
    return given.rvs((draws, *given.mean().shape), random_state=RNG)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_it_is_the_variance_of_the_score(name):
    """Fisher's information is the covariance of the gradient over targets drawn from the model."""
    bnn = LIKELIHOODS[name]
    weights = random_weights(bnn, RNG, ())
    position, unravel = ravel_pytree(jax.tree.map(jnp.asarray, weights))
    draws = 40_000

    def score_of(y):
        return jax.grad(lambda z: bnn.log_likelihood(unravel(z), X, y))(position)

    scores = np.asarray(jax.jit(jax.vmap(score_of))(drawn_targets(bnn, weights, draws)))
    # Along random directions, where a variance estimate has a standard error of its own.
    directions = RNG.normal(size=(6, position.size))
    squares = (scores @ directions.T) ** 2
    error = squares.std(axis=0, ddof=1) / np.sqrt(draws)
    found = information(bnn, weights, X)
    expected = np.einsum("di,ij,dj->d", directions, found, directions)
    assert np.all(np.abs(squares.mean(axis=0) - expected) < 5.5 * error)


def test_without_hidden_layers_it_is_the_hessian():
    bnn, noise = LINEAR.bnn, LINEAR.bnn.likelihood.noise
    design = np.hstack([np.ones((len(LINEAR.x), 1)), LINEAR.x])  # the bias comes first
    weights = {"output.weight": np.zeros((3, 1)), "output.bias": np.zeros(1)}
    found = information(bnn, weights, LINEAR.x)
    np.testing.assert_allclose(found, design.T @ design / noise**2, **ROUNDING)


@pytest.mark.parametrize("name", ["gaussian", "categorical"])
def test_a_weight_of_two_is_the_row_twice(name):
    bnn = LIKELIHOODS[name]
    weights, counts = random_weights(bnn, RNG, ()), np.array([1, 0, 2, 1, 0, 2, 1])
    repeated = information(bnn, weights, np.repeat(X, counts, axis=0))
    np.testing.assert_allclose(information(bnn, weights, X, counts), repeated, **ROUNDING)


def test_many_rows_are_summed_in_blocks():
    bnn = LIKELIHOODS["gaussian"]
    weights, drawn = random_weights(bnn, RNG, ()), RNG.integers(0, 7, 1025)
    expected = information(bnn, weights, X, np.bincount(drawn))
    np.testing.assert_allclose(information(bnn, weights, X[drawn]), expected, **ROUNDING)


@pytest.mark.parametrize("prior", LINEAR_PRIORS)
def test_its_sum_is_the_trace_of_the_hat_matrix(prior):
    prior = LINEAR.prior(**LINEAR_PRIORS[prior])
    weights = {name: jnp.asarray(RNG.normal(size=s.shape)) for name, s in LINEAR.bnn.sites.items()}
    shares = shares_of(LINEAR.bnn, weights, LINEAR.x, LINEAR.y, prior, jnp.ones(len(LINEAR.x)))
    found = np.sum(shares)
    # A flat prior is lent a precision of 1e-3, against data of some hundred.
    tolerance = 1e-9 if np.isfinite(prior.scale["output.bias"]).all() else 1e-4
    np.testing.assert_allclose(found, exact(prior).effective_parameters, rtol=tolerance)


def test_rows_that_do_not_count_determine_nothing():
    bnn = LIKELIHOODS["gaussian"]
    weights = {name: jnp.asarray(w) for name, w in random_weights(bnn, RNG, ()).items()}
    shares = shares_of(bnn, weights, X, jnp.zeros(7), wp.normal_prior(bnn), jnp.zeros(7))
    np.testing.assert_array_equal(shares, np.zeros(shares.shape))
