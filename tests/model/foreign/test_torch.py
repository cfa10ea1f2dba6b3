"""Weights trained in PyTorch put out here what they put out there.

`references/torch.npz` holds state dicts, inputs and outputs, made by `references/make_torch.py`.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weightprior as wp
from references import FOLDERS

# Outputs are computed in double precision, of weights that are known in single precision.
TOLERANCE = 1e-12


@cache
def reference(name):
    """State dict, inputs and outputs of a network."""
    with np.load(FOLDERS[0] / "torch.npz") as file:
        own = {key.removeprefix(f"{name}/"): file[key] for key in file if key.startswith(name)}
    return own, own.pop("x"), own.pop("outputs")


def perceptron(params, x):
    for i in (0, 2, 4):
        x = x @ params[f"{i}.weight"].T + params[f"{i}.bias"]
        x = x if i == 4 else jnp.tanh(x)
    return x


def convolution(params, x):
    images, bias = x.reshape(-1, 1, 6, 6), params["1.bias"][:, None, None]
    signal = jax.lax.conv(images, params["1.weight"], (1, 1), "VALID") + bias
    signal = jax.nn.softplus(signal).reshape(len(x), -1)
    return signal @ params["4.weight"].T + params["4.bias"]


FORWARD = {"mlp": (perceptron, "4"), "conv": (convolution, "4")}


@pytest.mark.parametrize("name", FORWARD)
def test_a_state_dict_is_a_centre_with_its_outputs(name):
    state, x, outputs = reference(name)
    forward, readout = FORWARD[name]
    network = wp.network(forward, x.shape[1], params=state, readout=readout)
    prior = wp.normal_prior(wp.BNN(network, wp.Gaussian(noise=1.0)), loc=state)
    with jax.enable_x64(True):
        found = network.apply({n: jnp.asarray(prior.loc[n]) for n in network.sites}, x)
    np.testing.assert_allclose(found, outputs, rtol=0, atol=TOLERANCE)


def test_weights_are_turned_for_a_network_with_the_inputs_first():
    state, x, outputs = reference("mlp")
    bnn = wp.BNN(wp.mlp(3, (5, 4), 2), wp.Gaussian(noise=1.0))
    prior = wp.normal_prior(bnn, loc=state)
    with jax.enable_x64(True):
        found = bnn.outputs({name: jnp.asarray(prior.loc[name]) for name in bnn.sites}, x)
    np.testing.assert_allclose(found, outputs, rtol=0, atol=TOLERANCE)


def test_fan_ins_are_those_of_its_layers():
    sites = wp.network(convolution, 36, params=reference("conv")[0]).sites
    assert {n: s.fan_in for n, s in sites.items() if s.kind == "weight"} == {
        "1.weight": 3 * 3,
        "4.weight": 2 * 4 * 4,
    }


@pytest.mark.parametrize("name", FORWARD)
def test_a_state_dict_comes_back(name):
    state, x, _ = reference(name)
    network = wp.network(FORWARD[name][0], x.shape[1], params=state)
    back = network.module({key: 2 * array.astype(float) for key, array in state.items()})
    assert {key: (a.shape, a.dtype) for key, a in back.items()} == {
        key: (a.shape, a.dtype) for key, a in state.items()
    }
    np.testing.assert_array_equal(back["4.weight"], 2 * state["4.weight"])


def test_a_module_of_pytorch_goes_there_and_back():
    torch = pytest.importorskip("torch")
    layers = [torch.nn.Linear(3, 5), torch.nn.Linear(5, 4), torch.nn.Linear(4, 2)]
    module = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2])
    state, x, outputs = reference("mlp")
    module.load_state_dict({key: torch.as_tensor(array) for key, array in state.items()})
    np.testing.assert_allclose(module(torch.as_tensor(x)).detach(), outputs, rtol=0, atol=TOLERANCE)
    network = wp.network(perceptron, 3, params=module.state_dict())
    prior = wp.normal_prior(wp.BNN(network, wp.Gaussian(noise=1.0)), loc=module.state_dict())
    back = network.module({name: 0.5 * prior.loc[name] for name in network.sites})
    module.load_state_dict(back)
    np.testing.assert_allclose(module.state_dict()["0.weight"], 0.5 * state["0.weight"])
