"""The networks of `problems` as other libraries have them, and some that only those have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

nnx = pytest.importorskip("flax.nnx")
linen = pytest.importorskip("flax.linen")
eqx = pytest.importorskip("equinox")


class Perceptron(nnx.Module):
    """A perceptron of tanh units."""

    def __init__(self, num_features=2, width=3, *, seed=0):
        rngs = nnx.Rngs(seed)
        self.inner = nnx.Linear(num_features, width, rngs=rngs)
        self.out = nnx.Linear(width, 1, rngs=rngs)

    def hidden(self, x):
        return self.inner(x)

    def __call__(self, x):
        return self.out(jnp.tanh(self.hidden(x)))


class Linen(linen.Module):
    """The same."""

    @linen.compact
    def __call__(self, x):
        return linen.Dense(1, name="out")(jnp.tanh(linen.Dense(3, name="inner")(x)))


def equinox(seed=0):
    """Make the same in Equinox."""
    return eqx.nn.MLP(2, 1, 3, 1, activation=jnp.tanh, key=jax.random.key(seed))


PARAMS = {
    "inner": {"weight": np.zeros((2, 3)), "bias": np.zeros(3)},
    "out": {"weight": np.zeros((3, 1)), "bias": np.zeros(1)},
}


def function(params, x):
    """Compute the same from a dict of arrays."""
    hidden = jnp.tanh(x @ params["inner"]["weight"] + params["inner"]["bias"])
    return hidden @ params["out"]["weight"] + params["out"]["bias"]


class Residual(nnx.Module):
    """A residual network with a LayerNorm."""

    def __init__(self, num_features=2, width=4, *, seed=0):
        rngs = nnx.Rngs(seed)
        self.inp = nnx.Linear(num_features, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.mid = nnx.Linear(width, width, rngs=rngs)
        self.out = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x):
        signal = self.inp(x)
        return self.out(signal + jnp.tanh(self.mid(self.norm(signal))))


class Convolution(nnx.Module):
    """A convolution of images of 8 x 8 pixels, as scikit-learn's digits are."""

    def __init__(self, classes=10, *, seed=0):
        rngs = nnx.Rngs(seed)
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.out = nnx.Linear(4, classes, rngs=rngs)

    def __call__(self, x):
        signal = jax.nn.softplus(self.conv(x.reshape(-1, 8, 8, 1)))
        return self.out(signal.mean((1, 2)))


class Embedding(nnx.Module):
    """Categories that are looked up, beside a number."""

    def __init__(self, *, seed=0):
        rngs = nnx.Rngs(seed)
        self.embed = nnx.Embed(3, 2, rngs=rngs)
        self.inner = nnx.Linear(3, 3, rngs=rngs)
        self.out = nnx.Linear(3, 1, rngs=rngs)

    def __call__(self, x):
        found = self.embed(x[:, 0].astype(int))
        return self.out(jnp.tanh(self.inner(jnp.hstack([found, x[:, 1:]]))))
