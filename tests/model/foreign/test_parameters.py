"""Kinds, fan-ins and axes of parameters, from their paths and shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import networks
import weightprior as wp
from networks import Convolution, Embedding, Residual, eqx, nnx


def test_a_norm_has_a_gain():
    sites = wp.network(Residual(), 2).sites
    assert sites["norm.scale"].kind == "gain"
    assert sites["norm.bias"].kind == "bias"
    assert sites["norm.scale"].dims == sites["norm.bias"].dims == ("norm_unit",)


def test_a_prior_at_zero_for_a_gain_warns_and_its_advice_works():
    bnn = wp.BNN(wp.network(Residual(), 2), wp.Gaussian())
    with pytest.warns(UserWarning, match=r"loc: 0 is the centre of 'norm.scale'.*switches"):
        wp.normal_prior(bnn)
    prior = wp.normal_prior(bnn, loc={"weight": 0, "bias": 0, "gain": 1})
    assert (prior.loc["norm.scale"] == 1).all()


def test_matched_centres_leave_gains_at_one_where_all_else_is_zero():
    bnn = wp.BNN(wp.network(Residual(), 2), wp.Gaussian())
    centers = wp.matched_centers(bnn, Residual(seed=1), scale=0.1)
    assert (centers["zero"].loc["norm.scale"] == 1).all()
    assert not centers["zero"].loc["inp.kernel"].any()


def test_a_convolution_sums_its_window_up():
    sites = wp.network(Convolution(), 64).sites
    assert sites["conv.kernel"].fan_in == 9
    assert sites["out.kernel"].fan_in == 4


def test_of_an_embedding_one_row_is_looked_up():
    sites = wp.network(Embedding(), 2).sites
    assert (sites["embed.embedding"].kind, sites["embed.embedding"].fan_in) == ("weight", 1)


def test_attention_has_several_axes_of_units():
    class Attention(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.inp = nnx.Linear(1, 4, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 4, rngs=rngs, decode=False)
            self.out = nnx.Linear(4, 1, rngs=rngs)

        def __call__(self, x):
            return self.out(self.attention(self.inp(x[:, :, None])).mean(axis=1))

    sites = wp.network(Attention(), 3).sites
    assert sites["attention.query.kernel"].shape == (4, 2, 2)
    assert sites["attention.query.kernel"].fan_in == 4
    assert sites["attention.out.kernel"].fan_in == 4


def test_tied_parameters_of_nnx_are_one_site():
    class Tied(nnx.Module):
        def __init__(self):
            self.inner = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
            self.again = self.inner

        def __call__(self, x):
            return self.again(jnp.tanh(self.inner(x)))

    assert list(wp.network(Tied(), 2).sites) == ["again.bias", "again.kernel"]


def test_weights_of_equinox_have_the_outputs_first():
    network = wp.network(eqx.nn.Linear(5, 2, key=jax.random.key(0)), 5)
    assert (network.sites["weight"].shape, network.sites["weight"].fan_in) == ((2, 5), 5)


def test_a_function_of_lists_and_slashes():
    params = {"layer/~/linear": [np.ones((2, 1)), np.ones(1)]}
    network = wp.network(
        lambda p, x: x @ p["layer/~/linear"][0] + p["layer/~/linear"][1],
        2,
        params=params,
        kinds={"layer.~.linear.1": "bias"},
        fan_ins={"layer.~.linear.0": 7},
    )
    assert network.sites["layer.~.linear.0"].fan_in == 7
    assert network.sites["layer.~.linear.1"].kind == "bias"


def test_parts_that_are_fixed_are_no_sites():
    trained = Embedding(seed=2)
    network = wp.network(Embedding(), 2, fixed={"embed": trained.embed}, readout="out")
    assert not any(name.startswith("embed") for name in network.sites)
    weights = {n: np.full(site.shape, 0.3) for n, site in network.sites.items()}
    own = network.module(weights)
    np.testing.assert_array_equal(own.embed.embedding[...], trained.embed.embedding[...])
    x = np.array([[0.0, 1.0], [2.0, -1.0]], np.float32)
    given = {n: jnp.asarray(v, jnp.float32) for n, v in weights.items()}
    np.testing.assert_allclose(network.apply(given, x), own(x), rtol=1e-5)


def test_other_fixed_numbers_are_another_model():
    first, second = (
        wp.network(Embedding(), 2, fixed={"embed": Embedding(seed=seed).embed}) for seed in (1, 2)
    )
    assert first.describe() != second.describe()
    same = wp.network(Embedding(seed=5), 2, fixed={"embed": Embedding(seed=1).embed})
    assert same.describe() == first.describe()


def test_another_activation_is_another_model():
    tanh, relu = (
        wp.network(
            lambda p, x, act=act: act(x @ p["inner"]["weight"]) @ p["out"]["weight"],
            2,
            params={k: {"weight": v["weight"]} for k, v in networks.PARAMS.items()},
        )
        for act in (jnp.tanh, jax.nn.relu)
    )
    assert tanh.describe() != relu.describe()
