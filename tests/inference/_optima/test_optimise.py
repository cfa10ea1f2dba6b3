from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weightprior.inference._optima import optimise


class Optimum(NamedTuple):
    """Where a descent ended."""

    position: Any
    value: Any
    gradient_norm: Any
    num_iterations: Any


# Curvatures of a bowl, and where it is lowest.
CURVATURES, LOWEST = np.geomspace(1e-2, 1e3, 6), np.linspace(-2.0, 3.0, 6)


def bowl(z):
    return 0.5 * jnp.sum(jnp.asarray(CURVATURES, z.dtype) * (z - jnp.asarray(LOWEST, z.dtype)) ** 2)


def minimise(function, start, tolerance, max_iterations):
    """All of a descent, in one call."""
    begun = optimise.begin(start)
    end = optimise.descend(function, begun, tolerance, max_iterations, max_iterations + 1)
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


def test_nan_ends_the_run_where_it_began():
    found = minimise(lambda z: jnp.sum(z) * jnp.nan, jnp.ones(3), 1e-6, 10**9)
    assert np.isinf(found.value)
    np.testing.assert_array_equal(found.position, np.ones(3))
    assert found.num_iterations == 0


def test_the_start_is_evaluated_by_the_first_step_and_counts_for_none():
    begun = optimise.begin(jnp.ones(6))
    assert optimise.unfinished(begun, jnp.inf, 0)
    there = optimise.descend(bowl, begun, jnp.inf, 0, 1)
    value, gradient = jax.value_and_grad(bowl)(jnp.ones(6))
    np.testing.assert_allclose(there.point.value, value, rtol=1e-6)
    np.testing.assert_allclose(there.point.gradient, gradient, rtol=1e-6)
    np.testing.assert_array_equal(there.point.position, np.ones(6))
    assert there.num_iterations == 0
    assert not optimise.unfinished(there, jnp.inf, 0)


def test_a_descent_goes_on_where_it_was_cut():
    whole = optimise.descend(bowl, optimise.begin(jnp.zeros(6)), 0.0, 20, 100)
    cut = optimise.begin(jnp.zeros(6))
    for _ in range(7):
        cut = optimise.descend(bowl, cut, 0.0, 20, 3)
    assert cut.num_iterations == whole.num_iterations == 20
    np.testing.assert_array_equal(cut.point.position, whole.point.position)


def test_the_inverse_hessian_as_preconditioner_leaves_little_to_do():
    def scaled(gradient):
        return gradient / jnp.asarray(CURVATURES, gradient.dtype)

    with jax.enable_x64(True):
        begun = optimise.begin(jnp.zeros(6))
        alone = optimise.descend(bowl, begun, 1e-8, 1000, 1000)
        helped = optimise.descend(bowl, begun, 1e-8, 1000, 1000, scaled)
        assert optimise.largest(helped.point.gradient) <= 1e-8
    assert helped.num_iterations < alone.num_iterations / 3
    np.testing.assert_allclose(helped.point.position, LOWEST, rtol=0, atol=1e-6)
