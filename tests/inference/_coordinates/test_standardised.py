import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightprior as wp
from assertions import assert_estimate
from weightprior.fits.task import Task
from weightprior.inference._coordinates.standardised import Standardised

BNN = wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian())
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(15, 2)), RNG.normal(size=15)
LOC = {name: RNG.normal(size=site.shape) for name, site in BNN.sites.items()}
SCALE = {name: RNG.uniform(0.1, 3.0, size=site.shape) for name, site in BNN.sites.items()}
PRIOR = wp.normal_prior(BNN, loc=LOC, scale=SCALE)
FLAT = wp.normal_prior(
    BNN, loc=LOC, scale={**SCALE, "hidden_0.weight": np.inf, "hidden_0.bias": np.inf}
)
Z = RNG.normal(size=14)

pytestmark = pytest.mark.usefixtures("strict")


def space_of(prior, dtype):
    return Standardised(BNN, X, Y, Task(prior, np.ones(len(X))), dtype)


@pytest.mark.parametrize("prior", [PRIOR, FLAT], ids=["normal", "part flat"])
def test_a_position_and_its_weights_are_the_same_point(prior, precision):
    @jax.jit
    def evaluate(z):
        space = space_of(prior, precision)
        weights = space.weights(z)
        joint = BNN.log_joint(weights, space.x, space.y, space.prior)
        return weights, space.position(weights), space.log_density(z), joint

    weights, position, log_density, log_joint = evaluate(jnp.asarray(Z, precision))
    assert {name: w.shape for name, w in weights.items()} == {
        name: site.shape for name, site in BNN.sites.items()
    }
    # Centre and distance are added and subtracted: an error of eps times their ratio, below 100.
    eps = np.finfo(precision).eps
    np.testing.assert_allclose(position, Z, rtol=0, atol=100 * eps)
    np.testing.assert_allclose(log_density, log_joint, rtol=20 * eps)


def test_the_origin_is_the_centre_and_the_unit_is_the_scale(precision):
    space = space_of(PRIOR, precision)
    eps = np.finfo(precision).eps
    for number in (0.0, 1.0, -2.0):
        weights = space.weights(jnp.full(space.size, number, precision))
        for name in BNN.sites:
            expected = LOC[name] + number * SCALE[name]
            np.testing.assert_allclose(weights[name], expected, rtol=0, atol=20 * eps)


def test_where_the_prior_is_flat_the_unit_is_one_over_the_root_of_the_fan_in():
    unit = space_of(FLAT, jnp.float32).unit
    np.testing.assert_allclose(unit["hidden_0.weight"], np.full((2, 3), 2**-0.5), rtol=1e-6)
    np.testing.assert_array_equal(unit["hidden_0.bias"], np.ones(3))
    np.testing.assert_allclose(unit["output.weight"], SCALE["output.weight"], rtol=1e-6)


def test_the_prior_depends_on_the_distance_from_its_centre_alone(precision):
    def density(prior):
        space = space_of(prior, precision)
        return BNN.log_prior(space.weights(jnp.asarray(Z, precision)), prior)

    densities = jax.jit(density)(PRIOR), jax.jit(density)(wp.normal_prior(BNN, scale=SCALE))
    np.testing.assert_allclose(*densities, rtol=100 * np.finfo(precision).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everything_is_computed_in_the_precision_asked_for(dtype):
    def evaluate(key):
        space = space_of(PRIOR, dtype)
        start = space.draw(key)
        gradient = jax.grad(space.log_density)(start)
        return start, gradient, space.log_density(start), space.weights(start)

    with jax.enable_x64(True):
        arrays = jax.tree.leaves(jax.eval_shape(evaluate, jax.random.key(0)))
    assert {a.dtype.name for a in arrays} == {dtype}


def test_draws_are_those_of_the_prior():
    num_draws = 4000
    space = space_of(PRIOR, jnp.float32)
    keys = jax.random.split(jax.random.key(0), num_draws)
    weights = jax.vmap(lambda key: space.weights(space.draw(key)))(keys)
    for name in BNN.sites:
        w, total = np.asarray(weights[name], np.float64), 2 * space.size
        error = SCALE[name] / np.sqrt(num_draws)
        assert_estimate(w.mean(0), LOC[name], error, num_comparisons=total, label=name)
        sd_error = error / np.sqrt(2)
        assert_estimate(w.std(0), SCALE[name], sd_error, num_comparisons=total, label=name)


def test_mask_marks_the_sites_it_is_given():
    space = space_of(PRIOR, jnp.float32)
    for name in BNN.sites:
        ones = space.unravel(space.mask({name}).astype(jnp.float32))
        for other, values in ones.items():
            np.testing.assert_array_equal(values, np.full(values.shape, other == name))
    assert not space.mask({"no such site"}).any()
    first, second = list(BNN.sites)[:2]
    assert (space.mask([first, second]) == space.mask({first}) | space.mask({second})).all()
    assert space.mask(BNN.sites).all()
