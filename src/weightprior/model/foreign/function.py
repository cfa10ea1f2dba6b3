"""Networks that are a function of a pytree of parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from weightprior.model.foreign.form import Readout, comes_from, dotted, with_identity
from weightprior.model.foreign.parameters import Parameter, Reading, check_untied

__all__ = ["matches", "parameters_of", "read"]


def matches(model: Any) -> bool:
    """Tell if this can be called with parameters and inputs."""
    return callable(model) and not isinstance(model, type)


@dataclass(frozen=True)
class _Form:
    """A function, and the structure of its parameters."""

    function: Callable[[Any, Any], Any]
    structure: Any
    names: tuple[str, ...]
    library: str = "function"

    def call(self, arrays: Mapping[str, Any], x: jax.Array) -> jax.Array:
        return self.function(self.build(arrays), x)

    def signal(self, arrays: Mapping[str, Any], x: jax.Array, layer: Readout) -> jax.Array:
        return self.call(with_identity(arrays, layer), x)

    def build(self, arrays: Mapping[str, Any]) -> Any:
        return jax.tree.unflatten(self.structure, [arrays[name] for name in self.names])


def read(model: Any, params: Any, num_features: int) -> Reading:
    """Read a function with its parameters."""
    if params is None:
        raise TypeError(
            "params: expected the parameters of the function, a dict of arrays or any other "
            "pytree; got none."
        )
    parameters, structure = parameters_of(params), jax.tree.structure(params)
    names = tuple(parameter.name for parameter in parameters)
    named = dict(zip(names, jax.tree.leaves(params), strict=True))
    check_untied(named, "Leave one out, and use the other in its place in the function.")
    return Reading(_Form(model, structure, names), parameters, {})


def parameters_of(params: Any) -> list[Parameter]:
    """Return the parameters of a pytree of arrays; tensors of PyTorch have the outputs first."""
    leaves = jax.tree.flatten_with_path(params)[0]
    found = [Parameter.of(dotted(path), leaf) for path, leaf in leaves]
    shapes = {parameter.path: parameter.value.shape for parameter in found}
    return [
        parameter._replace(
            output_first=comes_from(leaf, "torch") or _bias_is_first(parameter.path, shapes)
        )
        for parameter, (_, leaf) in zip(found, leaves, strict=True)
    ]


def _bias_is_first(path: tuple[str, ...], shapes: Mapping[Any, tuple[int, ...]]) -> bool:
    """Tell if a bias beside a weight is as long as its first axis, and not as its last."""
    shape, bias = shapes[path], shapes.get((*path[:-1], "bias"))
    return len(shape) > 1 and bias == shape[:1] and bias != shape[-1:]
