"""Networks of Flax's Linen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from weightprior.model.foreign.form import Reading, Readout, comes_from, dotted
from weightprior.model.foreign.parameters import Parameter, check_untied

__all__ = ["matches", "read"]

_ADVICE = (
    "A posterior is that of a fixed function of the parameters: leave Dropout out (or make it "
    "deterministic), and use LayerNorm or GroupNorm in place of BatchNorm."
)


def matches(model: Any) -> bool:
    """Tell if this is a module."""
    return comes_from(model, "flax.linen")


@dataclass(frozen=True)
class _Form:
    """A module, which holds no variables, and the structure of its parameters."""

    definition: Any
    structure: Any
    names: tuple[str, ...]
    library: str = "flax.linen"

    def call(self, arrays: Mapping[str, Any], x: jax.Array) -> jax.Array:
        return self.definition.apply(self.build(arrays), x)

    def signal(self, arrays: Mapping[str, Any], x: jax.Array, layer: Readout) -> jax.Array:
        """Return what the layer is called with; Linen compares shapes with the layer's own."""
        from flax import linen

        path, fed = tuple(layer.weight.split(".")[:-1]), []

        def watch(call, args, kwargs, context):
            if context.module.path == path:
                fed.append(args[0])
            return call(*args, **kwargs)

        with linen.intercept_methods(watch):
            self.call(arrays, x)
        return fed[-1]

    def build(self, arrays: Mapping[str, Any]) -> Any:
        parameters = jax.tree.unflatten(self.structure, [arrays[name] for name in self.names])
        return {"params": parameters}


def read(model: Any, params: Any, num_features: int) -> Reading:
    """Read a module with its variables; without them it is initialised."""
    if params is None:
        params = _initialised(model, num_features)
    collections = params if "params" in params else {"params": params}
    if others := [name for name in collections if name != "params"]:
        raise TypeError(
            f"params: expected parameters and no other variables; got {others[0]!r}. {_ADVICE}"
        )
    leaves, structure = jax.tree.flatten_with_path(collections["params"])
    parameters = [Parameter.of(dotted(path), leaf) for path, leaf in leaves]
    names = tuple(parameter.name for parameter in parameters)
    named = {name: leaf for name, (_, leaf) in zip(names, leaves, strict=True)}
    check_untied(named, "Give each an array of its own, or call one layer twice.")
    return Reading(_Form(model, structure, names), parameters, {})


def _initialised(model: Any, num_features: int) -> Any:
    from flax.errors import FlaxError

    try:
        return model.init(jax.random.key(0), jnp.zeros((1, num_features)))
    except FlaxError as error:
        raise TypeError(
            f"model: expected a module of parameters alone; got {error}. {_ADVICE}"
        ) from error
