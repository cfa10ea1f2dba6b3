"""The output layer integrated out: against the closed form, by way of the joint density."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import weightprior as wp
from weightprior.fits.task import Task
from weightprior.inference._coordinates import regression
from weightprior.inference._coordinates.collapsed import CollapsedOutput, collapsible_sites
from weightprior.inference._coordinates.standardised import Standardised

LAYER, BIAS = ("output.weight", "output.bias"), ("output.bias",)
_rng = np.random.default_rng(0)
X, Y = _rng.normal(size=(15, 2)), _rng.normal(size=(15, 2))
# Numbers that single precision has, too.
POSITION = _rng.normal(size=200).astype(np.float32).astype(np.float64)
COUNTS = _rng.uniform(0, 2, size=15)
COUNTS[3] = 0.0
# What only tests run, once or twice, takes longer to optimise than to run.
UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
compiled = partial(jax.jit, compiler_options=UNOPTIMISED)

CASES = {
    "one output": (wp.mlp(2, (3,)), wp.Gaussian(0.3), {"scale": 0.8}, None),
    "two outputs": (wp.mlp(2, (3,), 2), wp.Gaussian((0.3, 0.9)), {"scale": 0.8}, COUNTS),
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


def position_of(name, dtype):
    bnn, held = wp.BNN(*CASES[name][:2]), integrated(name)
    size = sum(np.prod(site.shape, dtype=int) for n, site in bnn.sites.items() if n not in held)
    return POSITION[:size].astype(dtype)


def integrated(name):
    bnn = wp.BNN(*CASES[name][:2])
    return collapsible_sites(bnn, wp.normal_prior(bnn))


@cache
def slope_of(name, precision):
    """A program of the density and its gradient, in this precision."""
    return compiled(jax.value_and_grad(lambda position: spaces(name)[0].log_density(position)))


@cache
def in_closed_form(name):
    """Log density and its gradient, and mean and covariance of what was integrated out.

    All in double precision, these in units of the prior. The joint density is normal in the output
    layer, so that its gradient and Hessian say it all.
    """

    def at(position):
        marginal, joint = spaces(name)
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
        # Where the joint density is highest: there it does not change with the mean.
        mean = jax.lax.stop_gradient(jnp.linalg.solve(precision, jax.grad(log_joint)(zero)))
        unit = {n: jnp.broadcast_to(joint.unit[n], z.shape) for n, z in zeros.items()}
        log_det = jnp.linalg.slogdet(precision)[1]
        volume = 0.5 * (zero.size * jnp.log(2 * jnp.pi) - log_det)
        volume += jnp.log(ravel_pytree(unit)[0]).sum()
        return log_joint(mean) + volume, (mean, precision)

    with jax.enable_x64(True):
        both = compiled(jax.value_and_grad(at, has_aux=True))
        (value, moments), slope = jax.device_get(both(position_of(name, np.float64)))
    mean, precision = moments
    return value, slope, mean, np.linalg.inv(precision)


@pytest.mark.parametrize("name", CASES)
def test_the_density_is_the_integral_of_the_joint_one(name, precision):
    found, gradient = slope_of(name, precision)(position_of(name, precision))
    assert found.dtype == gradient.dtype == precision
    expected, slope, *_ = in_closed_form(name)
    # Rounding of a sum over rows of squared residuals, and of the factors that a gradient adds up.
    tolerance = 100 * np.finfo(precision).eps
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=10 * tolerance * np.abs(slope).max())


@pytest.mark.parametrize("name", CASES)
def test_draws_of_the_output_layer_have_its_mean_and_covariance(name):
    count = 2000

    @compiled
    def draw(normals, position):
        marginal, joint = spaces(name)
        drawn = jax.vmap(marginal.complete, (0, None))(normals, position)
        z = {n: (drawn[n] - joint.prior.loc[n]) / joint.unit[n] for n in marginal.integrated}
        return drawn, marginal.weights(position), jax.vmap(lambda one: ravel_pytree(one)[0])(z)

    with jax.enable_x64(True):
        normals = _rng.normal(size=(count, spaces(name)[0].num_free))
        drawn, weights, flat = jax.device_get(draw(normals, position_of(name, np.float64)))
    assert set(drawn) == set(weights) | set(integrated(name))
    assert not set(weights) & set(integrated(name))
    for site, values in weights.items():
        # The same sum may be rounded otherwise.
        np.testing.assert_allclose(drawn[site][0], values, rtol=1e-14, atol=1e-15)
    _, _, mean, covariance = in_closed_form(name)
    white = np.linalg.solve(np.linalg.cholesky(covariance), (flat - mean).T)
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
        def at(position):
            task = Task(wp.normal_prior(bnn), np.ones(len(x)))
            space = CollapsedOutput(bnn, x, y, task, dtype, LAYER)
            made = space._regression(space.weights(position), *space.rows)[0]
            columns, residual, *prior = (part[0] for part in made)
            return regression.solve(*regression.equations(columns, residual), *prior)[2]

        # At many positions: rounding is small at some by chance.
        positions = POSITION.reshape(-1, 10).astype(dtype)
        return np.asarray(jax.jit(lambda them: jax.lax.map(at, them))(positions), float)

    with jax.enable_x64(True):
        exact = density(jnp.float64)
    found = density(jnp.float32)
    monkeypatch.setattr(regression, "_SINGLE_LIMIT", np.inf)
    in_single = density(jnp.float32)
    np.testing.assert_allclose(found, exact, rtol=0, atol=0.01)
    assert not np.abs(in_single - exact).max() < 0.01


def test_it_can_be_vectorised_inside_a_loop():
    """As an accelerator runs it: several chains at once."""
    name = "two outputs"
    normals = _rng.normal(size=spaces(name)[0].num_free).astype(np.float32)

    def drawn(position):
        return spaces(name)[0].complete(normals, position)

    def walk(position):
        slope = jax.grad(spaces(name)[0].log_density)
        end = jax.lax.fori_loop(0, 3, lambda _, p: p + 1e-3 * slope(p), position)
        return end, drawn(end)

    size = position_of(name, np.float32).size
    positions = _rng.normal(size=(3, size)).astype(np.float32)
    together = compiled(jax.vmap(walk))(positions)
    slope, draw = slope_of(name, "float32"), compiled(drawn)
    ends = positions
    for _ in range(3):
        ends = np.stack([p + np.float32(1e-3) * np.asarray(slope(p)[1]) for p in ends])
    apart = ends, jax.tree.map(lambda *a: np.stack(a), *map(draw, ends))
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, together, apart)
