"""Hidden units that a user's function shows are told of as those of `mlp` are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import networks
import weightprior as wp
from networks import Perceptron
from problems import NET
from shared_fits import made_fit, random_weights

DIAGNOSTICS = {
    "saturation": (wp.diagnostics.saturation, ()),
    "nonlinearity": (wp.diagnostics.nonlinearity, ()),
    "unit_ablation": (wp.diagnostics.unit_ablation, (NET.y,)),
}


def shown_by_nnx(model, x):
    signal = model.inner(x)
    return {"inner": (signal, jnp.tanh(signal))}


def shown_by_equinox(model, x):
    signal = jax.vmap(model.layers[0])(x)
    return {"layers.0": (signal, jnp.tanh(signal))}


CASES = {
    "nnx": (
        lambda: wp.network(Perceptron(), 2, hidden_units=shown_by_nnx),
        ("inner.kernel", "inner.bias", "out.kernel", "out.bias"),
        False,
    ),
    "equinox": (
        lambda: wp.network(networks.equinox(), 2, hidden_units=shown_by_equinox),
        ("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"),
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_diagnostics_are_those_of_mlp(case, name):
    make, names, turned = CASES[case]
    bnn = wp.BNN(make(), NET.bnn.likelihood)
    draws = random_weights(NET.bnn, np.random.default_rng(0), (1, 3))
    own = {
        new: draws[old].swapaxes(-1, -2) if turned and draws[old].ndim == 4 else draws[old]
        for new, old in zip(names, NET.bnn.sites, strict=True)
    }
    ask, data = DIAGNOSTICS[name]
    expected = ask(NET.bnn, made_fit(NET.bnn, NET.x, NET.y, draws), NET.x, *data)
    found = ask(bnn, made_fit(bnn, NET.x, NET.y, own), NET.x, *data)
    compared = [v for v in expected.data_vars if str(v) in found and expected[v].dtype.kind == "f"]
    assert len(compared) > 2
    for variable in compared:
        ours, theirs = found[variable].to_numpy(), expected[variable].to_numpy()
        # Sizes by outgoing weights, which are not known here, are NaN.
        known = ~np.isnan(ours) | ("size" not in variable and "correlation" not in variable)
        assert known.any()
        np.testing.assert_allclose(ours[known], theirs[known], rtol=1e-6, atol=1e-9)


def test_an_activation_of_ones_own_is_given_as_a_third():
    def squared(signal):
        return jnp.sign(signal) * signal**2

    def model(params, x):
        signal = x @ params["inner"]["weight"] + params["inner"]["bias"]
        return squared(signal) @ params["out"]["weight"] + params["out"]["bias"]

    def shows(*third):
        def hidden_units(params, x):
            signal = x @ params["inner"]["weight"] + params["inner"]["bias"]
            return {"inner": (signal, squared(signal), *third)}

        return wp.network(model, 2, params=networks.PARAMS, hidden_units=hidden_units)

    with pytest.raises(ValueError, match="Return three things"):
        shows()
    assert shows(squared).hidden_layers[0].num_units == 3


@pytest.mark.parametrize(
    ("hidden_units", "told"),
    [
        (lambda m, x: {"inside": (m.inner(x), m.inner(x))}, "'inner'"),
        (lambda m, x: {"inner": (m.inner(x)[:2], jnp.tanh(m.inner(x)))}, r"the shape \(6, 3\)"),
        (lambda m, x: {"inner": (2 * m.inner(x), jnp.tanh(2 * m.inner(x)))}, "its own weight"),
        (lambda m, x: {"out": (m.inner(x), jnp.tanh(m.inner(x)))}, r"the shape \(6, 1\)"),
    ],
    ids=["another name", "other rows", "another signal", "another layer"],
)
def test_units_that_are_not_the_layers_are_refused(hidden_units, told):
    with pytest.raises(ValueError, match=told):
        wp.network(Perceptron(), 2, hidden_units=hidden_units)
