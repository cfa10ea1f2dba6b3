"""Networks that are a function of a pytree of parameters."""

from collections.abc import Callable, Mapping, Sequence
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
    parameters = parameters_of(params, dots_are_torch=False)
    structure = jax.tree.structure(params)
    names = tuple(parameter.name for parameter in parameters)
    named = dict(zip(names, jax.tree.leaves(params), strict=True))
    check_untied(named, "Leave one out, and use the other in its place in the function.")
    return Reading(_Form(model, structure, names), parameters, {})


def parameters_of(params: Any, *, dots_are_torch: bool = True) -> list[Parameter]:
    """Return the parameters of a pytree of arrays, with PyTorch's names and axes understood.

    Names with dots and no levels may be those of a PyTorch state dict. They are taken as one if
    nothing else decides and the arrays are a centre: its shapes are compared with the sites.
    """
    leaves = jax.tree.flatten_with_path(params)[0]
    found = [Parameter.of(dotted(path), leaf) for path, leaf in leaves]
    biases = {p.path[:-1]: p.value.shape for p in found if p.path[-1] == "bias"}
    beside = [(p, biases.get(p.path[:-1])) for p in found if p.path[-1] == "weight"]
    told = any(comes_from(leaf, "torch") for _, leaf in leaves) or _are_turned(beside)
    turned = dots_are_torch and _is_flat(params) if told is None else told
    gains = {p.path for p, bias in beside if p.value.ndim == 1 and p.value.shape == bias}
    return [
        parameter._replace(
            output_first=turned and parameter.path[-1] == "weight",
            owner="Norm" if parameter.path in gains else "",
        )
        for parameter in found
    ]


def _are_turned(beside: Sequence[tuple[Parameter, tuple[int, ...] | None]]) -> bool | None:
    """Tell by the biases beside them if weights have the outputs first; None if no bias decides.

    Square weights do not decide: they are like the others.
    """
    shapes = [(p.value.shape, bias) for p, bias in beside if p.value.ndim > 1 and bias]
    told = {
        shape[:1] == bias for shape, bias in shapes if (shape[:1] == bias) != (shape[-1:] == bias)
    }
    return told == {True} if told else None


def _is_flat(params: Any) -> bool:
    """Tell if parameters have names with dots and no levels."""
    flat = isinstance(params, Mapping) and not any(isinstance(v, Mapping) for v in params.values())
    return flat and any("." in str(name) for name in params)
