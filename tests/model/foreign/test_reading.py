"""Networks as people write them: names that mislead, state dicts, stacks, and what is held."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightprior as wp
from networks import eqx, linen, nnx

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4))
KNOWN = wp.Gaussian(noise=0.5)
SQUARE, LAST = RNG.normal(size=(3, 3)), RNG.normal(size=(1, 3))


def line(params, x):
    return x @ params["w"]


def told(network):
    return {name: (site.kind, site.fan_in) for name, site in network.sites.items()}


class EmbedNet(nnx.Module):
    """No embedding, whatever its name, and no norm."""

    def __init__(self):
        self.w, self.v = nnx.Param(jnp.ones((4, 3))), nnx.Param(jnp.ones((3, 1)))

    def __call__(self, x):
        return jnp.tanh(x @ self.w.get_value()) @ self.v.get_value()


class NormNet(EmbedNet):
    """The same."""


@pytest.mark.parametrize("model", [EmbedNet, NormNet])
def test_a_word_in_a_name_is_no_kind(model):
    assert told(wp.network(model(), 4)) == {"w": ("weight", 4), "v": ("weight", 3)}


def test_a_linear_layer_may_be_called_after_a_norm():
    params = {"normal_head": {"kernel": np.ones((4, 1)), "bias": np.zeros(1)}}
    network = wp.network(
        lambda p, x: x @ p["normal_head"]["kernel"] + p["normal_head"]["bias"], 4, params=params
    )
    assert told(network)["normal_head.kernel"] == ("weight", 4)


def test_a_state_dict_has_norms_and_embeddings():
    params = {
        "0.weight": np.ones(4),
        "0.bias": np.zeros(4),
        "emb.weight": np.ones((7, 4)),
        "1.weight": np.ones((1, 4)),
        "1.bias": np.zeros(1),
    }

    def apply(p, x):
        signal = x * p["0.weight"] + p["0.bias"] + p["emb.weight"][1]
        return signal @ p["1.weight"].T + p["1.bias"]

    found = told(wp.network(apply, 4, params=params))
    assert found["0.weight"] == ("gain", None)
    assert found["emb.weight"] == ("weight", 1)
    assert found["1.weight"] == ("weight", 4)


def test_names_with_dots_alone_do_not_turn_weights():
    network = wp.network(lambda p, x: x @ p["o.weight"], 4, params={"o.weight": np.ones((4, 1))})
    assert told(network) == {"o.weight": ("weight", 4)}


def test_flat_parameters_have_biases():
    params = {"W1": np.ones((4, 3)), "b1": np.zeros(3), "W2": np.ones((3, 1)), "b2": np.zeros(1)}
    network = wp.network(
        lambda p, x: jnp.tanh(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"], 4, params=params
    )
    assert {name: kind for name, (kind, _) in told(network).items()} == {
        "W1": "weight",
        "W2": "weight",
        "b1": "bias",
        "b2": "bias",
    }


def test_a_kind_and_a_fan_in_may_be_given_for_a_block():
    params = {"block": {"a": {"w": np.ones((4, 3)), "b": np.ones(3)}}, "o": np.ones((3, 1))}
    network = wp.network(
        lambda p, x: jnp.tanh(x @ p["block"]["a"]["w"] + p["block"]["a"]["b"]) @ p["o"],
        4,
        params=params,
        kinds={"o": "last"},
        fan_ins={"block": 7},
    )
    assert told(network) == {
        "block.a.b": ("bias", None),
        "block.a.w": ("weight", 7),
        "o": ("last", None),
    }


def test_layers_in_a_stack_have_the_inputs_of_one():
    params = {"l": {"kernel": np.ones((3, 4, 4)), "bias": np.ones((3, 4))}, "o": np.ones((4, 1))}

    def apply(p, x):
        for kernel, bias in zip(p["l"]["kernel"], p["l"]["bias"], strict=True):
            x = jnp.tanh(x @ kernel + bias)
        return x @ p["o"]

    assert told(wp.network(apply, 4, params=params))["l.kernel"] == ("weight", 4)


@pytest.mark.parametrize("nested", [True, False])
def test_square_weights_are_turned_as_their_neighbours_are(nested):
    bnn = wp.BNN(wp.mlp(3, (3,)), KNOWN)
    layers = {
        "0": {"weight": SQUARE, "bias": np.ones(3)},
        "2": {"weight": LAST, "bias": np.ones(1)},
    }
    flat = {f"{n}.{part}": a for n, layer in layers.items() for part, a in layer.items()}
    loc = wp.normal_prior(bnn, loc=layers if nested else flat).loc
    np.testing.assert_array_equal(loc["hidden_0.weight"], SQUARE.T)
    np.testing.assert_array_equal(loc["output.weight"], LAST.T)


def test_what_no_site_stands_for_is_named():
    params = {"o": {"w": np.ones((4, 1))}}
    bnn = wp.BNN(wp.network(lambda p, x: x @ p["o"]["w"], 4, params=params), KNOWN)
    with pytest.raises(ValueError, match=r"^loc: .*got 'o.b' besides"):
        wp.normal_prior(bnn, loc={"o": {"w": np.ones((4, 1)), "b": np.ones(1)}})


def test_the_whole_network_is_a_centre_of_the_part_that_is_not_fixed():
    params = {"h": {"w": RNG.normal(size=(4, 3))}, "o": {"w": RNG.normal(size=(3, 1))}}
    network = wp.network(
        lambda p, x: jnp.tanh(x @ p["h"]["w"]) @ p["o"]["w"],
        4,
        params=params,
        fixed={"h": params["h"]},
    )
    loc = wp.normal_prior(wp.BNN(network, KNOWN), loc=params).loc
    assert [*loc] == ["o.w"]
    np.testing.assert_array_equal(loc["o.w"], params["o"]["w"])


def test_lists_of_parameters_are_a_centre():
    params = [(RNG.normal(size=(4, 3)), np.ones(3)), (RNG.normal(size=(3, 1)), np.ones(1))]
    network = wp.network(
        lambda p, x: jnp.tanh(x @ p[0][0] + p[0][1]) @ p[1][0] + p[1][1], 4, params=params
    )
    loc = wp.normal_prior(wp.BNN(network, KNOWN), loc=params).loc
    np.testing.assert_array_equal(loc["1.0"], params[1][0])


class Chosen(eqx.Module):
    """A linear layer of some columns."""

    columns: jax.Array
    linear: eqx.nn.Linear

    def __call__(self, x):
        return self.linear(x[self.columns])


def test_whole_numbers_that_a_module_holds_stay_whole():
    linear = eqx.nn.Linear(4, 1, key=jax.random.key(0))
    bnn = wp.BNN(wp.network(Chosen(jnp.array([1, 0, 3, 2]), linear), 4), KNOWN)
    fit = wp.fit_map(bnn, X, X[:, 0], prior=wp.normal_prior(bnn), num_restarts=1)
    weights = fit["posterior"]["linear.weight"].to_numpy().squeeze()
    assert np.abs(weights).argmax() == 1


def test_advice_on_whole_numbers_and_on_numbers_that_are_held_works():
    params = {"w": np.ones((4, 1)), "columns": np.array([1, 0, 3, 2]), "times": np.float64(2.0)}

    def apply(p, x):
        return p["times"] * x[:, p["columns"]] @ p["w"]

    with pytest.raises(TypeError, match=r"Hold it at its value, fixed=\{'columns': "):
        wp.network(apply, 4, params=params)
    network = wp.network(apply, 4, params=params, fixed={"columns": [1, 0, 3, 2], "times": 2})
    bnn = wp.BNN(network, KNOWN)
    fit = wp.fit_map(bnn, X, X[:, 0], prior=wp.normal_prior(bnn), num_restarts=1)
    assert np.abs(fit["posterior"]["w"].to_numpy().squeeze()).argmax() == 1


def test_rows_far_down_are_looked_at_too():
    def apply(params, x):
        return line(params, x) - jnp.max(jnp.where(x[:, :1] > 3, x[:, :1], 0.0))

    x = X.copy()
    x[8, 0] = 5.0
    bnn = wp.BNN(wp.network(apply, 4, params={"w": np.ones((4, 1))}), KNOWN)
    with pytest.raises(ValueError, match="that row alone"):
        wp.fit_map(bnn, x, x[:, 0], prior=wp.normal_prior(bnn))


def test_a_slash_in_a_name_is_a_dot():
    class Slashed(nnx.Module):
        def __init__(self):
            self.parts = nnx.Dict({"a/b": nnx.Linear(4, 1, rngs=nnx.Rngs(0))})

        def __call__(self, x):
            return self.parts["a/b"](x)

    assert [*wp.network(Slashed(), 4).sites] == ["parts.a.b.bias", "parts.a.b.kernel"]


class Half(linen.Module):
    """A layer that computes in half precision."""

    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(jnp.tanh(linen.Dense(3, dtype=jnp.bfloat16)(x)))


class Asking(linen.Module):
    """A module that has to be told more."""

    @linen.compact
    def __call__(self, x, train):
        return linen.Dense(1)(x)


class Keyed(eqx.Module):
    """A module with a key."""

    key: jax.Array
    linear: eqx.nn.Linear

    def __call__(self, x):
        return self.linear(x)


W = {"w": np.ones((4, 1))}
TWO = {"h": {"w": np.ones((4, 3)), "b": np.ones(3)}, "o": {"w": np.ones((3, 1)), "b": np.ones(1)}}
REFUSED = {
    "half precision": (lambda: Half(), {}, "half precision"),
    "more arguments": (lambda: Asking(), {}, "called with x alone.*'train'"),
    "variables of other features": (
        lambda: linen.Dense(1),
        {"params": {"params": {"kernel": np.ones((3, 1)), "bias": np.ones(1)}}},
        "^params: expected those that module.init returns",
    ),
    "variables that are none": (lambda: linen.Dense(1), {"params": [1]}, "^params: .*got list"),
    "a class": (lambda: nnx.Linear, {}, "Pass an instance"),
    "a key": (
        lambda: Keyed(jax.random.key(0), eqx.nn.Linear(4, 1, key=jax.random.key(0))),
        {},
        "key of random numbers, 'key'",
    ),
    "a key among parameters": (
        lambda: line,
        {"params": {**W, "k": jax.random.key(0)}},
        "key of random numbers, 'k'",
    ),
    "a layer before the last": (
        lambda: lambda p, x: jnp.tanh(x @ p["h"]["w"] + p["h"]["b"]) @ p["o"]["w"] + p["o"]["b"],
        {"params": TWO, "readout": "h"},
        "^readout: expected a last linear layer",
    ),
    "held twice": (
        lambda: lambda p, x: x @ p["h"]["w"],
        {"params": {"h": W, "o": np.ones(1)}, "fixed": {"h": W, "h.w": W["w"]}},
        "'h.w' twice",
    ),
    "held at nothing": (
        lambda: line,
        {"params": {**W, "o": np.ones(2)}, "fixed": {"o": np.array([1.0, np.nan])}},
        r"^fixed\['o'\]: expected finite",
    ),
    "several outputs": (lambda: lambda p, x: (x @ p["w"], x), {"params": W}, "got a tuple"),
    "named outputs": (lambda: lambda p, x: {"y": x @ p["w"]}, {"params": W}, "got a dict of 'y'"),
    "no outputs": (lambda: lambda p, x: (x @ p["w"])[:, :0], {"params": W}, "at least one output"),
    "rows on the scale of other outputs": (
        lambda: (
            lambda p, x: jnp.hstack([1e6 * line(p, x), 1e-5 * (line(p, x) - line(p, x).mean())])
        ),
        {"params": W},
        "that row alone",
    ),
    "units of another call": (
        lambda: line,
        {"params": W, "hidden_units": lambda p: {}},
        "^hidden_units: expected a function that can be called",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused(case):
    make, options, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message):
        wp.network(make(), 4, **options)
