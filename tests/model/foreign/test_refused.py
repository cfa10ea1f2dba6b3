"""Networks whose posterior would mean nothing are refused, and what to do instead is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import networks
import weightprior as wp
from networks import Embedding, Perceptron, eqx, linen, nnx

W = np.ones((2, 1))
KEY = jax.random.key(0)


class Around(nnx.Module):
    """A perceptron around some layer."""

    def __init__(self, layer):
        self.inner = nnx.Linear(2, 4, rngs=nnx.Rngs(0))
        self.layer = layer
        self.out = nnx.Linear(4, 1, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.out(self.layer(self.inner(x)))


class AroundLinen(linen.Module):
    """The same."""

    layer: linen.Module

    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(self.layer(linen.Dense(4)(x)))


class AroundEquinox(eqx.Module):
    """The same."""

    inner: eqx.nn.Linear
    layer: eqx.Module
    out: eqx.nn.Linear

    def __call__(self, x):
        return self.out(self.layer(self.inner(x)))


def around(layer):
    first, last = (eqx.nn.Linear(*size, key=KEY) for size in ((2, 4), (4, 1)))
    return AroundEquinox(first, layer, last)


def tied():
    square = eqx.nn.Linear(2, 2, key=KEY)
    return eqx.nn.Sequential([square, eqx.nn.Lambda(jnp.tanh), square])


def slope(params, x):
    return x @ params["w"]


TABLE, COLUMNS = np.eye(2), np.array([1, 0])


def rotated(params, x):
    return x @ TABLE @ params["w"]


REFUSED = {
    "a constant of NumPy's": (lambda: rotated, {"params": {"w": W}}, "jnp.asarray"),
    "a constant in a compiled function": (
        lambda: jax.jit(rotated),
        {"params": {"w": W}},
        "asarray",
    ),
    "columns of NumPy's": (
        lambda: lambda p, x: x[:, COLUMNS] @ p["w"],
        {"params": {"w": W}},
        "dtype=int",
    ),
    "BatchNorm of nnx": (lambda: Around(nnx.BatchNorm(4, rngs=nnx.Rngs(0))), {}, "BatchStat"),
    "Dropout of nnx": (lambda: Around(nnx.Dropout(0.1, rngs=nnx.Rngs(0))), {}, "jax.nn.identity"),
    "BatchNorm of Linen": (
        lambda: AroundLinen(linen.BatchNorm(use_running_average=False)),
        {},
        "batch_stats",
    ),
    "Dropout of Linen": (
        lambda: AroundLinen(linen.Dropout(0.1, deterministic=False)),
        {},
        "Dropout",
    ),
    "BatchNorm of Equinox": (
        lambda: around(eqx.nn.BatchNorm(4, axis_name="rows", mode="batch")),
        {},
        "LayerNorm",
    ),
    "Dropout of Equinox": (lambda: around(eqx.nn.Dropout(0.1)), {}, "inference_mode"),
    "a state of its own": (lambda: Around(_Counting()), {}, "Variable"),
    "tied in Equinox": (tied, {}, "equinox.nn.Shared"),
    "tied by a view": (
        lambda: lambda p, x: x @ p["w"] @ p["v"] @ p["w"],
        {"params": (lambda w: {"w": w, "v": w.T})(np.ones((2, 1)))},
        "one array as 'v' and 'w'",
    ),
    "tied in a pytree": (
        lambda: lambda p, x: x @ p["a"] + x @ p["b"],
        {"params": {"a": W, "b": W}},
        "tied",
    ),
    "complex": (lambda: slope, {"params": {"w": W + 0j}}, "two real ones"),
    "integers": (lambda: slope, {"params": {"w": W.astype(int)}}, "fixed="),
    "text": (lambda: slope, {"params": {"w": W, "name": "a"}}, "Leave it out"),
    "rows that are centred": (
        lambda: lambda p, x: (x - x.mean(0)) @ p["w"],
        {"params": {"w": W}},
        "that row alone",
    ),
    "rows in their order": (
        lambda: lambda p, x: jnp.cumsum(x @ p["w"], 0),
        {"params": {"w": W}},
        "that row alone",
    ),
    "one axis": (lambda: lambda p, x: (x @ p["w"])[:, 0], {"params": {"w": W}}, r"\[:, None\]"),
    "single precision": (
        lambda: lambda p, x: (x @ p["w"]).astype(jnp.float32),
        {"params": {"w": W}},
        "dtype",
    ),
    "no parameters": (lambda: slope, {}, "params"),
    "none to fit": (lambda: slope, {"params": {"w": W}, "fixed": {"w": W}}, "not fixed"),
    "another number of features": (lambda: slope, {"params": {"w": np.ones((3, 1))}}, "2"),
    "mlp": (lambda: wp.mlp(2), {}, "BNN"),
    "a class": (lambda: Perceptron, {}, "expected a module"),
    "a state": (lambda: nnx.split(Perceptron())[1], {}, "nnx.merge"),
    "an unknown kind": (lambda: slope, {"params": {"w": W}, "kinds": {"v": "bias"}}, "'w'"),
    "an unknown fan-in": (lambda: slope, {"params": {"w": W}, "fan_ins": {"v": 2}}, "'w'"),
    "an unknown part": (lambda: slope, {"params": {"w": W}, "fixed": {"v": W}}, "'w'"),
    "a part of another shape": (
        lambda: slope,
        {"params": {"w": W}, "fixed": {"w": np.ones(3)}},
        r"\(3,\)",
    ),
    "no last layer": (
        lambda: lambda p, x: jnp.tanh(x @ p["o"]["w"] + p["o"]["b"]),
        {"params": {"o": {"w": W, "b": np.zeros(1)}}, "readout": "o"},
        "last linear layer",
    ),
    "a scalar of each row": (
        lambda: eqx.nn.MLP(2, "scalar", 3, 1, key=KEY),
        {},
        "out_size=1",
    ),
    "no function for units": (lambda: slope, {"params": {"w": W}, "hidden_units": 5}, "a function"),
    "units that are none": (
        lambda: slope,
        {"params": {"w": W}, "hidden_units": lambda p, x: {}},
        "dict by layer",
    ),
    "an unknown option": (lambda: slope, {"parameters": {"w": W}}, "params"),
    "a last layer without a bias": (lambda: slope, {"params": {"w": W}, "readout": "w"}, "a bias"),
}


class _Counting(nnx.Module):
    def __init__(self):
        self.count = nnx.Variable(jnp.zeros(()))

    def __call__(self, x):
        return x


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused(case):
    make, options, told = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=told):
        wp.network(make(), 2, **options)


def test_advice_on_dropout_works():
    model = Around(nnx.Dropout(0.1, rngs=nnx.Rngs(0)))
    model.layer = jax.nn.identity
    assert wp.network(model, 2).num_outputs == 1
    assert wp.network(eqx.nn.inference_mode(around(eqx.nn.Dropout(0.1))), 2).num_outputs == 1
    assert wp.network(AroundLinen(linen.Dropout(0.1, deterministic=True)), 2).num_outputs == 1


def test_advice_on_constants_works():
    def told(params, x):
        turned = x[:, jnp.asarray(COLUMNS, dtype=int)] @ jnp.asarray(TABLE, x.dtype)
        return turned @ params["w"] + x @ params["table"] @ params["w"]

    params = {"w": W, "table": TABLE}
    network = wp.network(told, 2, params=params, fixed={"table": TABLE})
    x = jnp.asarray(np.eye(2), jnp.float32)
    assert network.apply({"w": jnp.asarray(W, jnp.float32)}, x).dtype == jnp.float32


def test_rows_are_looked_at_again_before_a_fit():
    # Small numbers alone do not show it.
    bnn = wp.BNN(
        wp.network(
            lambda p, x: jnp.where(jnp.abs(x).max() > 100, x - x.mean(0), x) @ p["w"],
            2,
            params={"w": W},
        ),
        wp.Gaussian(noise=1.0),
    )
    x = np.random.default_rng(0).normal(size=(20, 2))
    x[3] = 1e3
    with pytest.raises(ValueError, match="that row alone"):
        wp.fit_map(bnn, x, x[:, 0], prior=wp.normal_prior(bnn))


@pytest.mark.parametrize("given", [object(), "text", [1, 2], np.ones(3)])
def test_what_is_no_centre_is_refused(given):
    bnn = wp.BNN(wp.network(Embedding(), 2), wp.Gaussian())
    with pytest.raises((TypeError, ValueError), match="loc"):
        wp.normal_prior(bnn, loc=given)


def test_a_centre_of_another_architecture_names_the_parameter():
    bnn = wp.BNN(wp.network(Perceptron(), 2), wp.Gaussian())
    with pytest.raises(ValueError, match=r"'inner.bias' shape \(3,\); got shape \(5,\)"):
        wp.normal_prior(bnn, loc=Perceptron(width=5))
    with pytest.raises(ValueError, match="'inner', 'out'; got 'conv', 'out'"):
        wp.normal_prior(bnn, loc=networks.Convolution())
