from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightprior.inference._optima import optimise
from weightprior.inference._optima import whitened as rounds
from weightprior.inference._optima.whitened import Optimum

# Curvatures of a bowl, and where it is lowest.
CURVATURES, LOWEST = np.geomspace(1e-2, 1e3, 6), np.linspace(-2.0, 3.0, 6)


def bowl(z):
    return 0.5 * jnp.sum(jnp.asarray(CURVATURES, z.dtype) * (z - jnp.asarray(LOWEST, z.dtype)) ** 2)


def minimise(function, start, tolerance, max_iterations):
    """All of a descent, in one call."""
    begun = optimise.begin(function, start)
    end = optimise.descend(function, begun, tolerance, max_iterations, max_iterations)
    norm = optimise.largest(end.point.gradient)
    return Optimum(end.point.position, end.point.value, norm, end.num_iterations)


@jax.jit
def minimise_bowl(tolerance, max_iterations):
    return minimise(bowl, jnp.zeros(6), tolerance, max_iterations)


def rosenbrock(z):
    return 100 * (z[1] - z[0] ** 2) ** 2 + (1 - z[0]) ** 2


def relu_fit(z):
    """Squared error of four relu units: flat where they are off, with kinks between."""
    x = jnp.linspace(-2.0, 2.0, 40)
    weight, bias, out = z.reshape(3, 4)
    hidden = jax.nn.relu(x[:, None] * weight[None, :] + bias[None, :])
    return jnp.sum((hidden @ out - jnp.sin(2 * x)) ** 2) * 12.5 + 0.5 * jnp.sum(z**2)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-2), ("float64", 1e-6)])
def test_minimum_is_found_within_the_tolerance(precision, tolerance):
    with jax.enable_x64(precision == "float64"):
        found = minimise_bowl(tolerance, 1000)
    assert found.position.dtype == found.value.dtype == precision
    gradient = CURVATURES * (np.asarray(found.position, np.float64) - LOWEST)
    # Rounding of a position moves the gradient by the curvature times that.
    rounding = np.finfo(precision).eps * np.max(CURVATURES * np.abs(LOWEST))
    np.testing.assert_allclose(found.gradient_norm, np.abs(gradient).max(), atol=2 * rounding)
    assert np.abs(gradient).max() <= tolerance + 2 * rounding
    assert 0 < found.num_iterations < 1000


def test_curved_valley_is_followed_to_its_end():
    with jax.enable_x64(True):
        found = jax.jit(lambda z: minimise(rosenbrock, z, 1e-8, 1000))(np.array([-1.2, 1.0]))
    # The smallest curvature at the minimum is 0.4: an error is at most 1e-8 * sqrt(2) / 0.4.
    np.testing.assert_allclose(found.position, [1.0, 1.0], rtol=0, atol=4e-8)


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_steps_than_allowed(limit):
    found = minimise_bowl(0.0, limit)
    assert found.num_iterations == limit
    assert found.gradient_norm > 0


def test_a_run_that_precision_stops_ends_by_itself():
    found = minimise_bowl(0.0, 10**9)
    assert found.num_iterations < 10_000
    np.testing.assert_allclose(found.position, LOWEST, atol=0.1)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_kinks_never_raise_the_function(precision):
    with jax.enable_x64(precision == "float64"):
        starts = np.random.default_rng(0).normal(size=(40, 12)).astype(precision)
        run = jax.jit(lambda z: (relu_fit(z), minimise(relu_fit, z, 1e-6, 2000).value))
        before, after = np.array([run(start) for start in starts]).T
    assert np.all(after < before)


def test_a_start_at_the_minimum_stays_there():
    found = minimise(lambda z: jnp.sum(z**2), jnp.zeros(3), 1e-6, 100)
    np.testing.assert_array_equal(found.position, np.zeros(3))
    assert found.gradient_norm == 0


def test_nan_ends_the_run_and_is_reported():
    found = minimise(lambda z: jnp.sum(z) * jnp.nan, jnp.ones(3), 1e-6, 10**9)
    assert np.isnan(found.value)
    assert np.isnan(found.gradient_norm)
    assert found.num_iterations < 100


# With a matrix that resembles the Hessian.

# So different that L-BFGS alone takes thousands of steps.
NARROW = np.geomspace(1e-6, 1e6, 200)


class Bowl(NamedTuple):
    """A bowl around one, and the diagonal of the matrix that resembles its Hessian."""

    curvatures: np.ndarray = NARROW
    quartic: float = 1.0
    of_two: float = 0.0
    diagonal: np.ndarray | float = 1.0
    of_quartic: float = 0.0

    def __call__(self, z):
        around_one = 0.5 * jnp.sum(self.curvatures * (z - 1) ** 2)
        around_one += self.quartic * jnp.sum((z - 1) ** 4)
        return around_one + self.of_two * jnp.sum(z[:2] ** 2)

    def precision(self, z):
        return jnp.diag(self.diagonal + self.of_quartic * (z - 1) ** 2)


@jax.jit
def _whitened(bowl, plain_steps, max_iterations, hopeless):
    limits = 1e-8, max_iterations
    found = jax.lax.while_loop(
        lambda state: rounds.unfinished(state, *limits),
        lambda state: rounds.advance(
            bowl, bowl.precision, state, *limits, plain_steps, max_iterations, lambda z: hopeless
        ),
        rounds.begin(jnp.zeros(200), plain_steps),
    ).optimum
    return found, *jax.value_and_grad(bowl)(found.position)


def whitened(bowl, *, plain_steps=20, max_iterations=1000, hopeless=False):
    """Where the rounds end, and the function and its gradient there."""
    with jax.enable_x64(True):
        given = jax.tree.map(lambda a: np.broadcast_to(np.float64(a), np.shape(a)), bowl)
        given = given._replace(diagonal=np.broadcast_to(given.diagonal, 200))
        return jax.device_get(_whitened(given, plain_steps, max_iterations, hopeless))


def test_a_search_without_hope_ends_with_its_round():
    found, *_ = whitened(Bowl(), hopeless=True)
    assert found.num_iterations <= 20
    assert found.gradient_norm > 1e-8


def test_whitening_shortens_a_narrow_valley():
    with jax.enable_x64(True):
        alone = jax.device_get(minimise(Bowl(), jnp.zeros(200), 1e-8, 1000))
    assert alone.gradient_norm > 1e-8
    found, *_ = whitened(Bowl(diagonal=NARROW, of_quartic=12.0))
    assert found.gradient_norm <= 1e-8
    assert found.num_iterations < 200


@pytest.mark.parametrize("plain_steps", [0, 10])
def test_what_it_reports_is_the_function_there(plain_steps):
    bowl = Bowl(diagonal=NARROW + 1)
    found, value, gradient = whitened(bowl, plain_steps=plain_steps, max_iterations=100)
    # In another place of a program, sums may come in another order.
    np.testing.assert_allclose(found.value, value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.gradient_norm, np.abs(gradient).max(), rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("diagonal", [np.nan, -1.0, 0.0], ids=["nan", "negative", "singular"])
def test_a_matrix_that_cannot_be_used_is_not(diagonal):
    bowl_of_two = Bowl(np.full(200, 2.0), quartic=0.0, of_two=1.0, diagonal=diagonal)
    found, *_ = whitened(bowl_of_two, plain_steps=1)
    assert found.gradient_norm <= 1e-8


@pytest.mark.parametrize("limit", [1, 7, 33])
def test_no_more_steps_than_allowed_in_any_round(limit):
    found, *_ = whitened(Bowl(), plain_steps=5, max_iterations=limit)
    assert found.num_iterations == limit


def test_nan_ends_the_rounds():
    found, *_ = whitened(Bowl(quartic=np.nan))
    assert np.isnan(found.value)
    assert np.isnan(found.gradient_norm)
