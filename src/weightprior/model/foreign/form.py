"""The form in which a library holds a network: how to call it, and how to rebuild it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

__all__ = ["Form", "Readout", "comes_from", "dotted", "with_identity"]


class Form(Protocol):
    """All of a network but its numbers. Hashable, since compiled programs are found by it."""

    @property
    def library(self) -> str:
        """Name of the library."""
        ...

    def call(self, arrays: Mapping[str, Any], x: jax.Array) -> jax.Array:
        """Compute the outputs of all rows, with these arrays as parameters."""
        ...

    def signal(self, arrays: Mapping[str, Any], x: jax.Array, layer: "Readout") -> jax.Array:
        """Return the inputs of the last linear layer, of shape (rows, columns)."""
        ...

    def build(self, arrays: Mapping[str, Any]) -> Any:
        """Return the network as an object of its library, with these arrays as parameters."""
        ...


class Readout(NamedTuple):
    """A last linear layer: names of its parameters, and the order of its weight's axes."""

    weight: str
    bias: str
    output_first: bool


def comes_from(value: Any, library: str) -> bool:
    """Tell if a value's class is from a library, or inherits from one, without importing it."""
    return any(f"{kind.__module__}.".startswith(f"{library}.") for kind in type(value).__mro__)


def dotted(path: Sequence[Any]) -> tuple[str, ...]:
    """Write a path of JAX as names; that of a lone array is ``"params"``."""
    steps = [part for step in path for part in re.split(r"[./]", str(_key(step)))]
    return tuple(filter(None, steps)) or ("params",)


def _key(step: Any) -> Any:
    return next(getattr(step, name) for name in ("key", "idx", "name") if hasattr(step, name))


def with_identity(arrays: Mapping[str, Any], layer: Readout) -> dict[str, Any]:
    """Return parameters with which a last linear layer returns its inputs."""
    weight = arrays[layer.weight]
    columns = weight.shape[1 if layer.output_first else 0]
    unchanged = {
        layer.weight: jnp.eye(columns, dtype=weight.dtype),
        layer.bias: jnp.zeros(columns, weight.dtype),
    }
    return {**arrays, **unchanged}
