"""Networks of Flax's NNX."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from weightprior.model.foreign.form import Readout, comes_from, with_identity
from weightprior.model.foreign.parameters import Parameter, Reading, check_no_key, name_of

__all__ = ["matches", "outputs_of", "parameters_of", "read"]

_RANDOM = (
    "It holds random numbers, and a posterior needs a fixed function. Replace a Dropout, "
    "model{layer} = jax.nn.identity; from other layers, remove their rngs once they are made."
)
_INSTEAD = {
    "BatchStat": "Its statistics make rows depend on each other. Use LayerNorm or GroupNorm.",
    "RngCount": _RANDOM,
    "RngKey": _RANDOM,
}


def matches(model: Any) -> bool:
    """Tell if this is a module or its state."""
    return comes_from(model, "flax.nnx")


@dataclass(frozen=True)
class _Form:
    """A graph of modules, without its variables."""

    graph: Any
    structure: Any
    # Names of the leaves of the state; with the leaf itself if it is no array.
    leaves: tuple[tuple[str, Any], ...]
    library: str = "flax.nnx"

    def call(self, arrays: Mapping[str, Any], x: jax.Array) -> jax.Array:
        return self.build(arrays)(x)

    def signal(self, arrays: Mapping[str, Any], x: jax.Array, layer: Readout) -> jax.Array:
        return self.call(with_identity(arrays, layer), x)

    def build(self, arrays: Mapping[str, Any]) -> Any:
        from flax import nnx

        leaves = [arrays[name] if leaf is None else leaf for name, leaf in self.leaves]
        return nnx.merge(self.graph, jax.tree.unflatten(self.structure, leaves))


def read(model: Any, params: Any, num_features: int) -> Reading:
    """Read a module; parameters that it shares are read once."""
    from flax import nnx

    if params is not None:
        raise TypeError(
            "params: expected none beside a module of nnx, which holds its own; got "
            f"{type(params).__name__}. Put them into it: nnx.update(model, params)."
        )
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"model: expected a module; got {type(model).__name__}. Make one of it: "
            "nnx.merge(graphdef, state)."
        )
    graph, state = nnx.split(model)
    parameters, constants, leaves = [], {}, []
    for path, variable in nnx.to_flat_state(state):
        name = name_of(path)
        value = variable.get_value() if isinstance(variable, nnx.Variable) else variable
        is_array = isinstance(value, jax.Array | np.ndarray)
        if isinstance(variable, nnx.Param):
            parameters.append(_parameter(model, path, value))
        elif isinstance(variable, nnx.Variable):
            raise TypeError(_about_state(path, variable))
        elif is_array:
            check_no_key(name, value)
            constants[name] = value
        leaves.append((name, None if is_array else value))
    return Reading(_Form(graph, jax.tree.structure(state), tuple(leaves)), parameters, constants)


def outputs_of(model: Any, x: jax.Array) -> jax.Array:
    """Compute outputs of a module after its training, on a copy: a call could change its state."""
    from flax import nnx

    own = nnx.clone(model)
    own.eval()
    return own(x)


def parameters_of(values: Any) -> list[Parameter]:
    """Return the parameters of a module or a state."""
    from flax import nnx

    state = nnx.state(values) if isinstance(values, nnx.Module) else values
    return [
        _parameter(values, path, variable.get_value())
        for path, variable in nnx.to_flat_state(state)
        if isinstance(variable, nnx.Param)
    ]


def _parameter(model: Any, path: tuple[Any, ...], value: Any) -> Parameter:
    names: tuple[str, ...] = tuple(map(str, path))
    owner: Any = model
    for key in path[:-1]:
        owner = owner[key] if isinstance(key, int) else getattr(owner, str(key), None)
    return Parameter.of(names, value, type(owner).__name__)


def _about_state(path: tuple[Any, ...], variable: Any) -> str:
    kind = type(variable).__name__
    steps = path[:-1] if "rngs" not in path else path[: path.index("rngs")]
    layer = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in steps)
    instead = _INSTEAD.get(kind, "Make it a jax.Array, which stays as it is, or a nnx.Param.")
    return (
        "model: expected no variables but parameters; got the "
        f"{kind} {'.'.join(map(str, path))!r}. {instead.format(layer=layer)}"
    )
