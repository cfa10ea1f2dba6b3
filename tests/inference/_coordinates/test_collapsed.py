"""The output layer integrated out: against the closed form, by way of the joint density."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import weightprior as wp
from weightprior.fits.task import Task
from weightprior.inference._coordinates import collapsed
from weightprior.inference._coordinates.collapsed import CollapsedOutput, collapsible_sites
from weightprior.inference._coordinates.standardised import Standardised

LAYER, BIAS = ("output.weight", "output.bias"), ("output.bias",)
_rng = np.random.default_rng(0)
X, Y = _rng.normal(size=(15, 2)), _rng.normal(size=(15, 2))
POSITION, COUNTS = _rng.normal(size=200), _rng.uniform(0, 2, size=15)
COUNTS[3] = 0.0

CASES = {
    "one output": (wp.mlp(2, (3,)), wp.Gaussian(0.3), {"scale": 0.8}, None),
    "two outputs": (wp.mlp(2, (3,), 2), wp.Gaussian(0.3), {"scale": 0.8}, COUNTS),
    "learned noises, two layers": (wp.mlp(2, (3, 2), 2), wp.Gaussian(), {"scale": 0.8}, COUNTS),
    "flat biases": (
        wp.mlp(2, (3,)),
        wp.Gaussian(),
        {"scale": {"weight": 0.8, "bias": np.inf}},
        None,
    ),
    "a linear model": (wp.mlp(2, ()), wp.Gaussian(0.3), {"scale": 0.8}, None),
    "a wide layer": (wp.mlp(2, (40,)), wp.Gaussian(0.3), {"scale": 0.8}, None),
}


def spaces(name):
    """A model's density with and without the output layer integrated out."""
    network, likelihood, prior, counts = CASES[name]
    bnn = wp.BNN(network, likelihood)
    y = Y if network.num_outputs == 2 else Y[:, 0]
    prior = wp.normal_prior(bnn, loc=0.3, **prior)
    task = Task(prior, np.ones(len(X)) if counts is None else counts)
    given = (bnn, X, y, task, jnp.result_type(float))
    return CollapsedOutput(*given, collapsible_sites(bnn, prior)), Standardised(*given)


def in_closed_form(marginal, joint, position):
    """Log density, and mean and covariance of what was integrated out, in units of the prior.

    The joint density is normal in the output layer, so that its gradient and Hessian say it all.
    """
    weights = marginal.weights(position)
    zeros = {n: jnp.zeros(joint.bnn.sites[n].shape) for n in marginal.integrated}
    zero, unravel = ravel_pytree(zeros)

    def log_joint(flat):
        z = unravel(flat)
        moved = {n: joint.prior.loc[n] + joint.unit[n] * z[n] for n in z}
        return joint.bnn.log_joint(
            weights | moved, joint.x, joint.y, joint.prior, joint.row_weights
        )

    precision = -jax.hessian(log_joint)(zero)
    mean = jnp.linalg.solve(precision, jax.grad(log_joint)(zero))
    unit = ravel_pytree({n: jnp.broadcast_to(joint.unit[n], z.shape) for n, z in zeros.items()})[0]
    log_det = jnp.linalg.slogdet(precision)[1]
    volume = 0.5 * (zero.size * jnp.log(2 * jnp.pi) - log_det) + jnp.log(unit).sum()
    return log_joint(mean) + volume, mean, jnp.linalg.inv(precision)


@pytest.mark.parametrize("name", CASES)
def test_the_density_is_the_integral_of_the_joint_one(name, precision):
    with jax.enable_x64(precision == "float64"):
        marginal, _ = spaces(name)
        position = jnp.asarray(POSITION[: marginal.size], marginal.dtype)
        found, gradient = jax.jit(jax.value_and_grad(marginal.log_density))(position)
        assert found.dtype == gradient.dtype == precision
    with jax.enable_x64(True):
        marginal, joint = spaces(name)
        exact = jnp.asarray(position, jnp.float64)
        value = jax.jit(lambda p: in_closed_form(marginal, joint, p)[0])
        expected, slope = jax.value_and_grad(value)(exact)
    # Rounding of a sum over rows of squared residuals, and of the factors that a gradient adds up.
    tolerance = 100 * np.finfo(precision).eps
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=10 * tolerance * np.abs(slope).max())


@pytest.mark.parametrize("name", CASES)
def test_draws_of_the_output_layer_have_its_mean_and_covariance(name):
    count = 2000
    with jax.enable_x64(True):
        marginal, joint = spaces(name)
        position = jnp.asarray(POSITION[: marginal.size])
        keys = jax.random.split(jax.random.key(0), count)
        drawn = jax.jit(jax.vmap(marginal.sample_conditional, (0, None)))(keys, position)
        closed = jax.jit(lambda p: in_closed_form(marginal, joint, p))
        _, mean, covariance = closed(position)
        weights = marginal.weights(position)
        assert set(drawn) == set(marginal.bnn.sites)
        for site in marginal.of_prior.sites:
            # Compiled or not, the same sum may be rounded otherwise.
            np.testing.assert_allclose(drawn[site][0], weights[site], rtol=1e-14, atol=1e-15)
        z = {n: (drawn[n] - joint.prior.loc[n]) / joint.unit[n] for n in marginal.integrated}
        flat = np.asarray(jax.vmap(lambda one: ravel_pytree(one)[0])(z))
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, (flat - np.asarray(mean)).T)
    # Standard normal, then: means and covariances within 5.5 standard errors.
    error = 5.5 / np.sqrt(count)
    assert np.abs(white.mean(1)).max() < error
    assert np.abs(np.cov(white) - np.eye(len(white))).max() < np.sqrt(2) * error


def test_what_is_integrated_out():
    def found(network, likelihood, prior=wp.normal_prior):
        bnn = wp.BNN(network, likelihood)
        return collapsible_sites(bnn, prior(bnn))

    assert found(wp.mlp(1, (20,)), wp.Gaussian()) == LAYER
    assert found(wp.mlp(10, (32, 32)), wp.Gaussian()) == LAYER
    assert found(wp.mlp(8, (50,)), wp.Gaussian()) == BIAS
    assert found(wp.mlp(8, ()), wp.Gaussian()) == BIAS
    assert found(wp.mlp(1, (20,)), wp.Gaussian(), wp.hierarchical_prior) == ()
    for likelihood in (wp.Bernoulli(), wp.StudentT(4.0), wp.Poisson()):
        assert found(wp.mlp(1, (5,)), likelihood) == ()


def test_a_signal_too_strong_for_single_precision_is_computed_in_double(monkeypatch):
    """With 1e8 times the noise's variance, single precision loses the prior beside the data."""
    network = wp.mlp(1, (5,))
    bnn = wp.BNN(network, wp.Gaussian(1e-3))
    x = np.linspace(-1, 1, 200)[:, None]
    y = np.sin(3 * x[:, 0])

    def density(dtype):
        task = Task(wp.normal_prior(bnn), np.ones(len(x)))
        space = CollapsedOutput(bnn, x, y, task, dtype, LAYER)
        position = jnp.asarray(POSITION[: space.size], dtype)
        columns, residual, _, precision = space._regression(space.weights(position))
        return float(collapsed._solve(columns[0], residual[0], precision[0])[2])

    with jax.enable_x64(True):
        exact = density(jnp.float64)
    found = density(jnp.float32)
    monkeypatch.setattr(collapsed, "_SINGLE_LIMIT", np.inf)
    in_single = density(jnp.float32)
    assert abs(found - exact) < 0.01
    assert not abs(in_single - exact) < 0.01


def test_it_can_be_vectorised_inside_a_loop():
    """As an accelerator runs it: several chains at once."""
    marginal, _ = spaces("two outputs")

    def walk(position):
        slope = jax.grad(marginal.log_density)
        end = jax.lax.fori_loop(0, 3, lambda _, p: p + 1e-3 * slope(p), position)
        return end, marginal.sample_conditional(jax.random.key(0), end)

    positions = jnp.asarray(_rng.normal(size=(3, marginal.size)), jnp.float32)
    together = jax.jit(jax.vmap(walk))(positions)
    apart = jax.tree.map(lambda *a: np.stack(a), *map(jax.jit(walk), positions))
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, together, apart)
