"""Networks made by hand or at random, to look at their hidden units, and the same relabelled."""

from itertools import pairwise

import numpy as np

import shared_fits as fits
import weightprior as wp

# What rounding leaves of float64 sums over some rows and units.
ROUNDING = {"rtol": 1e-10, "atol": 1e-12}

NETWORKS = {
    "tanh": wp.mlp(2, hidden=(4,)),
    "relu": wp.mlp(2, hidden=(5,), activation="relu"),
    "two hidden layers": wp.mlp(3, hidden=(4, 3), num_outputs=2, activation=["tanh", "relu"]),
    "sigmoid": wp.mlp(1, hidden=(3,), activation="sigmoid"),
}
MODELS = {name: wp.BNN(network, wp.Gaussian(noise=0.5)) for name, network in NETWORKS.items()}


def single(bnn, x, y=None, prior=None, **weights):
    """A fit of one draw: weights by site, a double underscore for the dot."""
    named = {name.replace("__", "."): np.asarray(w, float) for name, w in weights.items()}
    draws = {name: named[name].reshape(1, 1, *site.shape) for name, site in bnn.sites.items()}
    return fits.made_fit(bnn, x, zeros(bnn, x) if y is None else y, draws, prior=prior)


def zeros(bnn, x):
    outputs = bnn.network.num_outputs
    return np.zeros((len(x), outputs) if outputs > 1 else len(x))


def random(bnn, seed=0, lead=(2, 3), rows=12):
    """Weights, inputs and targets."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(size=(*lead, *site.shape)) for name, site in bnn.sites.items()}
    x = rng.normal(size=(rows, bnn.network.num_features))
    return weights, x, rng.normal(size=zeros(bnn, x).shape)


def relabelled(bnn, weights, orders, mirrored=()):
    """Units of every layer in another order; those of mirrored layers with turned signs as well."""
    new = dict(weights)
    layers = bnn.network.layers
    for layer, following in pairwise(layers):
        order = orders[layer]
        sign = -1.0 if layer in mirrored else 1.0
        new[f"{layer}.weight"] = sign * new[f"{layer}.weight"][..., order]
        new[f"{layer}.bias"] = sign * new[f"{layer}.bias"][..., order]
        new[f"{following}.weight"] = sign * new[f"{following}.weight"][..., order, :]
    return new


def assert_relabelling_shows_in_units_alone(bnn, diagnose):
    """`diagnose(fit, x, y)` of a network and of the same with other labels."""
    weights, x, y = random(bnn)
    rng, layers = np.random.default_rng(1), bnn.network.layers[:-1]
    orders = {n: rng.permutation(k) for n, k in zip(layers, bnn.network.hidden, strict=True)}
    pairs = zip(layers, bnn.network.activations, strict=True)
    mirrored = [layer for layer, activation in pairs if activation == "tanh"]
    others = relabelled(bnn, weights, orders, mirrored)
    before, after = (diagnose(fits.made_fit(bnn, x, y, w), x, y) for w in (weights, others))
    for name, values in before.data_vars.items():
        for layer in set(layers) & set(values.dims):
            # What a unit takes in from another layer, or by label, is the same by position.
            values = values.isel({layer: orders[layer]}).drop_vars(layer)
        np.testing.assert_allclose(after[name], values, err_msg=str(name), **ROUNDING)


def assert_stacked_is_its_parts(bnn, diagnose):
    draws = [random(bnn, seed)[0] for seed in range(2)]
    _, x, y = random(bnn)
    prior = wp.stack_priors({"a": wp.normal_prior(bnn), "b": wp.normal_prior(bnn, scale=2.0)})
    stacked = fits.made_fit(bnn, x, y, *draws, prior=prior)
    found = diagnose(stacked, x, y)
    for label, part in wp.unstack_fit(stacked).items():
        one = diagnose(part, x, y)
        assert set(one) == set(found)
        for name, values in one.data_vars.items():
            assert found[name].dims == (*values.dims[:2], "prior", *values.dims[2:])
            np.testing.assert_array_equal(found[name].sel(prior=label), values, str(name))
