"""A network's tangent: where it touches, where it leads, and that its numbers are traced."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightprior as wp
from shared_fits import random_weights
from weightprior.model.linearised import linearised
from weightprior.model.network import dense_layers_of, head_of, hidden_layers_of

BNN = wp.BNN(wp.mlp(2, hidden=(3, 2), num_outputs=2), wp.Gaussian())
X = np.random.default_rng(0).normal(size=(5, 2))


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def weights_of(bnn, seed):
    drawn = random_weights(bnn, np.random.default_rng(seed), ())
    return {name: jnp.asarray(values) for name, values in drawn.items()}


CENTER, WEIGHTS = (random_weights(BNN, np.random.default_rng(seed), ()) for seed in (1, 2))


def tangent_of(function, moved):
    """Tangent of a function of the weights by a difference, whose error is of its squared step."""
    step = 1e-6
    ahead, behind = (
        function({n: CENTER[n] + s * (moved[n] - CENTER[n]) for n in CENTER}) for s in (step, -step)
    )
    return function(CENTER) + (ahead - behind) / (2 * step)


@pytest.mark.parametrize(
    "function",
    [
        lambda bnn, w: bnn.outputs(w, X),
        lambda bnn, w: bnn.network.hidden_units(w, X)["hidden_0"].post,
        lambda bnn, w: bnn.network.hidden_units(w, X)["hidden_1"].post,
        lambda bnn, w: bnn.network.apply_without(w, X, "hidden_0", 1),
    ],
    ids=["outputs", "first layer", "second layer", "without a unit"],
)
def test_it_touches_at_its_centre_and_goes_on_straight(function):
    straight = linearised(BNN, CENTER)
    at_center = np.asarray(function(BNN, CENTER))
    np.testing.assert_allclose(function(straight, CENTER), at_center, rtol=1e-12)
    found = np.asarray(function(straight, WEIGHTS))
    np.testing.assert_allclose(found, tangent_of(lambda w: function(BNN, w), WEIGHTS), rtol=1e-6)
    beyond = {name: CENTER[name] + 2 * (WEIGHTS[name] - CENTER[name]) for name in CENTER}
    np.testing.assert_allclose(function(straight, beyond), 2 * found - at_center, rtol=1e-10)


def test_activations_have_the_inputs_of_the_centre():
    straight = linearised(BNN, CENTER).network.hidden_units(WEIGHTS, X)
    touched = BNN.network.hidden_units(CENTER, X)
    for layer, units in straight.items():
        np.testing.assert_array_equal(units.pre, touched[layer].pre)


def test_a_linear_network_is_its_own_tangent():
    bnn = wp.BNN(wp.mlp(2, hidden=()), wp.Gaussian())
    weights = weights_of(bnn, 3)
    straight = linearised(bnn, weights_of(bnn, 4))
    np.testing.assert_allclose(straight.outputs(weights, X), bnn.outputs(weights, X), rtol=1e-12)


def test_it_is_a_model_with_the_same_sites_and_description():
    straight = linearised(BNN, CENTER)
    assert straight.sites == BNN.sites
    assert straight.describe() == BNN.describe()
    assert hidden_layers_of(straight.network) == hidden_layers_of(BNN.network)
    # No layer of it can be told from the rest: its outputs depend on all weights at once.
    assert head_of(straight.network) is None
    assert dense_layers_of(straight.network) is None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scaled:
    """A product of weights, times a number that is not fitted."""

    factor: Any
    sites: ClassVar = {"a": wp.Site((2,), ("feature",), 2, "weight", "a")}
    num_outputs: ClassVar = 1
    feature_names: ClassVar = (0, 1)

    def apply(self, weights, x):
        return self.factor * jnp.prod(weights["a"]) * jnp.asarray(x, weights["a"].dtype)[:, :1]


def test_the_centre_and_the_numbers_of_the_network_are_traced():
    outputs = jax.jit(lambda bnn, weights: bnn.outputs(weights, X))
    for factor, center in ((1.0, [1.0, 2.0]), (3.0, [1.0, 2.0]), (3.0, [-0.5, 0.7])):
        bnn = wp.BNN(Scaled(jnp.asarray(factor)), wp.Gaussian(noise=1.0))
        straight = linearised(bnn, {"a": jnp.asarray(center)})
        found = outputs(straight, {"a": jnp.asarray([0.3, 0.4])})
        product = (
            center[0] * center[1] + (0.3 - center[0]) * center[1] + center[0] * (0.4 - center[1])
        )
        np.testing.assert_allclose(found, factor * product * X[:, :1], rtol=1e-12)
    assert outputs._cache_size() == 1
