"""Networks: their sites, and a forward pass that plain numpy repeats."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import special

import weightprior as wp

DEPTHS = [(), (3,), (4, 2), (4, 2, 3)]

# Each in numpy, in the form that other libraries give them.
FORMULAS = {
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "relu": lambda u: np.maximum(u, 0.0),
    "softplus": lambda u: np.logaddexp(0.0, u),
    "silu": lambda u: u * special.expit(u),
    "gelu": lambda u: u * (1 + special.erf(u / np.sqrt(2))) / 2,
    "identity": lambda u: u,
}


def draw(network, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=site.shape) for name, site in network.sites.items()}


def in_jax(weights):
    dtype = jnp.result_type(float)
    return {name: jnp.asarray(values, dtype) for name, values in weights.items()}


def forward(weights, x, activations):
    signal = x
    for i, activation in enumerate(activations):
        signal = activation(signal @ weights[f"hidden_{i}.weight"] + weights[f"hidden_{i}.bias"])
    return signal @ weights["output.weight"] + weights["output.bias"]


def assert_close(ours, expected, precision):
    # Numbers of order ten at most, after some fifty roundings.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=500 * np.finfo(precision).eps)


@pytest.mark.parametrize("num_outputs", [1, 3])
@pytest.mark.parametrize("hidden", DEPTHS)
def test_every_layer_has_a_weight_and_a_bias(hidden, num_outputs):
    network = wp.mlp(2, hidden=hidden, num_outputs=num_outputs)
    layers = [*(f"hidden_{i}" for i in range(len(hidden))), "output"]
    assert network.layers == tuple(layers)
    assert list(network.sites) == [f"{a}.{b}" for a in layers for b in ("weight", "bias")]
    sizes, dims = [2, *hidden, num_outputs], ["feature", *layers]
    for layer, shape, names in zip(layers, pairwise(sizes), pairwise(dims), strict=True):
        assert network.sites[f"{layer}.weight"] == wp.Site(shape, names, shape[0], "weight", layer)
        assert network.sites[f"{layer}.bias"] == wp.Site(
            shape[1:], names[1:], shape[0], "bias", layer
        )


def test_the_sites_of_two_hidden_layers():
    network = wp.mlp(5, hidden=(4, 2), num_outputs=3)
    shapes = {name: (site.shape, site.dims) for name, site in network.sites.items()}
    assert shapes == {
        "hidden_0.weight": ((5, 4), ("feature", "hidden_0")),
        "hidden_0.bias": ((4,), ("hidden_0",)),
        "hidden_1.weight": ((4, 2), ("hidden_0", "hidden_1")),
        "hidden_1.bias": ((2,), ("hidden_1",)),
        "output.weight": ((2, 3), ("hidden_1", "output")),
        "output.bias": ((3,), ("output",)),
    }


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("num_outputs", [1, 3])
@pytest.mark.parametrize("hidden", DEPTHS)
def test_outputs_are_those_of_plain_numpy(hidden, num_outputs, precision):
    network = wp.mlp(2, hidden=hidden, num_outputs=num_outputs)
    weights, x = draw(network), np.random.default_rng(1).normal(size=(6, 2))
    outputs = jax.jit(network.apply)(in_jax(weights), x)
    assert outputs.shape == (6, num_outputs)
    assert outputs.dtype == precision
    assert_close(outputs, forward(weights, x, [np.tanh] * len(hidden)), precision)


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_is_its_formula(name, precision):
    network = wp.mlp(1, hidden=(1,), activation=name)
    # The unit's pre-activation is x itself. At the ends a careless formula overflows.
    weights = {site: jnp.ones(s.shape) for site, s in network.sites.items()}
    weights["hidden_0.bias"] = jnp.zeros(1)
    x = np.concatenate([np.linspace(-6, 6, 49), [-300.0, 300.0]])
    units = network.hidden_units(weights, x[:, None])["hidden_0"]
    np.testing.assert_array_equal(units.pre[:, 0], x.astype(precision))
    eps = np.finfo(precision).eps
    # Absolute as well: gelu subtracts numbers near 1 in its tail, and multiplies by x.
    np.testing.assert_allclose(units.post[:, 0], FORMULAS[name](x), rtol=20 * eps, atol=20 * eps)


def test_gelu_is_the_exact_one_and_not_the_tanh_approximation():
    exact = wp.mlp(1, hidden=(1,), activation="gelu")
    approximate = wp.mlp(1, hidden=(1,), activation=jax.nn.gelu)
    weights = {site: jnp.ones(s.shape) for site, s in exact.sites.items()}
    x = jnp.ones((1, 1))
    # The two forms differ by up to 5e-4, far more than a rounding.
    assert abs(exact.apply(weights, x) - approximate.apply(weights, x)).item() > 1e-5


def test_activations_are_chosen_layer_by_layer(precision):
    network = wp.mlp(2, hidden=(4, 2, 3), activation=["relu", jnp.sin, "identity"])
    weights, x = draw(network), np.random.default_rng(1).normal(size=(6, 2))
    expected = forward(weights, x, [FORMULAS["relu"], np.sin, FORMULAS["identity"]])
    assert_close(network.apply(in_jax(weights), x), expected, precision)


@pytest.mark.parametrize("hidden", DEPTHS)
def test_hidden_units_lead_from_the_inputs_to_the_outputs(hidden, precision):
    network = wp.mlp(2, hidden=hidden, num_outputs=2)
    weights, x = in_jax(draw(network)), np.random.default_rng(1).normal(size=(6, 2))
    units = jax.jit(network.hidden_units)(weights, x)
    assert tuple(units) == network.layers[:-1]
    signal = x
    for layer, width in zip(units, hidden, strict=True):
        assert units[layer].pre.shape == units[layer].post.shape == (6, width)
        pre = signal @ weights[f"{layer}.weight"] + weights[f"{layer}.bias"]
        assert_close(units[layer].pre, pre, precision)
        assert_close(units[layer].post, np.tanh(units[layer].pre), precision)
        signal = units[layer].post
    outputs = signal @ weights["output.weight"] + weights["output.bias"]
    assert_close(network.apply(weights, x), outputs, precision)


def test_permuted_units_compute_the_same_function(precision):
    network = wp.mlp(2, hidden=(4,))
    weights, x = in_jax(draw(network)), np.random.default_rng(1).normal(size=(6, 2))
    order = np.array([2, 0, 3, 1])
    permuted = {
        "hidden_0.weight": weights["hidden_0.weight"][:, order],
        "hidden_0.bias": weights["hidden_0.bias"][order],
        "output.weight": weights["output.weight"][order],
        "output.bias": weights["output.bias"],
    }
    assert_close(network.apply(permuted, x), network.apply(weights, x), precision)


def test_all_derivatives_are_those_of_plain_products(precision):
    """The first product has a derivative of its own: in weights, in inputs, twice, and batched."""
    network = wp.mlp(3, hidden=(4, 2), num_outputs=2)
    weights = in_jax(draw(network))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)), weights["output.bias"].dtype)

    def plain(weights, x):
        signal = x
        for layer in network.layers[:-1]:
            signal = jnp.tanh(signal @ weights[f"{layer}.weight"] + weights[f"{layer}.bias"])
        return signal @ weights["output.weight"] + weights["output.bias"]

    def derivatives(function):
        def loss(weights, x):
            return jnp.sum(jnp.sin(function(weights, x)))

        each_row = jax.vmap(jax.grad(loss), in_axes=(None, 0))(weights, x[:, None, :])
        return (
            jax.grad(loss, argnums=(0, 1))(weights, x),
            jax.jacfwd(function, argnums=(0, 1))(weights, x),
            jax.jacrev(function, argnums=(0, 1))(weights, x),
            jax.hessian(loss, argnums=(0, 1))(weights, x),
            each_row,
        )

    tolerance = 100 * np.finfo(x.dtype).eps
    found, expected = jax.jit(lambda: (derivatives(network.apply), derivatives(plain)))()
    jax.tree.map(
        partial(np.testing.assert_allclose, atol=tolerance, rtol=tolerance), found, expected
    )


def test_weights_decide_the_precision():
    with jax.enable_x64(True):
        network = wp.mlp(2, hidden=(3,))
        weights = {name: jnp.ones(s.shape, jnp.float32) for name, s in network.sites.items()}
        assert network.apply(weights, np.ones((4, 2))).dtype == jnp.float32


def test_arrays_of_other_names_are_left_alone():
    network = wp.mlp(2, hidden=(3,))
    weights, x = in_jax(draw(network)), np.ones((4, 2))
    more = {**weights, "noise": jnp.ones(()), "log_noise": jnp.zeros(())}
    np.testing.assert_array_equal(network.apply(more, x), network.apply(weights, x))


@pytest.mark.parametrize(
    "names", [["age", "dose"], ("age", "dose"), pd.DataFrame(columns=["age", "dose"]).columns]
)
def test_features_have_names(names):
    network = wp.mlp(names)
    assert network.feature_names == ("age", "dose")
    assert network.num_features == 2
    assert wp.mlp(2).feature_names == (0, 1)


@pytest.mark.parametrize("activation", ["tanh", jnp.sin, ["relu", jnp.tanh]])
def test_equal_networks_are_one_to_jax(activation):
    def network():
        return wp.mlp(["a", "b"], hidden=[3, 2], activation=activation)

    assert network() == network()
    assert hash(network()) == hash(network())
    assert network() != wp.mlp(["a", "b"], hidden=[2, 3], activation=activation)
    apply = jax.jit(lambda network, weights, x: network.apply(weights, x), static_argnums=0)
    for seed in range(2):
        apply(network(), in_jax(draw(network(), seed)), np.ones((4, 2)))
    assert apply._cache_size() == 1
