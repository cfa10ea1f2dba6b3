"""A residual network of Flax, as people have them: not one of the package's perceptrons."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx

import weightprior as wp

__all__ = ["residual"]


class _Residual(nnx.Module):
    """A linear layer, a layer of tanh units beside it, and a linear one that reads their sum."""

    def __init__(self, num_inputs: int, width: int, num_outputs: int, rngs: nnx.Rngs) -> None:
        self.inp = nnx.Linear(num_inputs, width, rngs=rngs)
        self.mid = nnx.Linear(width, width, rngs=rngs)
        self.out = nnx.Linear(width, num_outputs, rngs=rngs)

    def __call__(self, x):
        signal = self.inp(x)
        return self.out(signal + jnp.tanh(self.mid(signal)))


def residual(width: int) -> Callable[[Any], Any]:
    """Make residual networks with an output for every class where there are more than two."""

    def network(data: Any) -> Any:
        outputs = data.num_classes if data.num_classes > 2 else 1
        module = _Residual(data.x.shape[1], width, outputs, nnx.Rngs(0))
        return wp.network(module, data.x.columns, readout="out", hidden_units=_hidden_units)

    return network


def _hidden_units(model: _Residual, x):
    signal = model.mid(model.inp(x))
    return {"mid": (signal, jnp.tanh(signal))}
