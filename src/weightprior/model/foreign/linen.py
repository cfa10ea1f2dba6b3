"""Networks of Flax's Linen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from weightprior.model.foreign.form import Readout, comes_from, dotted
from weightprior.model.foreign.parameters import Parameter, Reading, check_untied

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
        """Return the layer's inputs, recorded in a call: Linen checks the shapes of its weights."""
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
    rows = jax.ShapeDtypeStruct((2, num_features), jnp.result_type(float))
    if params is not None and not isinstance(params, Mapping):
        raise TypeError(
            "params: expected the variables of the module, a dict as module.init returns it; got "
            f"{type(params).__name__}."
        )
    if params is None:
        params = _tried(lambda: model.init(jax.random.key(0), jnp.zeros(rows.shape, rows.dtype)))
    variables = params if "params" in params else {"params": params}
    if others := [name for name in variables if name != "params"]:
        raise TypeError(
            f"model: expected parameters and no other variables; got {others[0]!r}. {_ADVICE}"
        )
    _tried(lambda: jax.eval_shape(model.apply, variables, rows))
    leaves, structure = jax.tree.flatten_with_path(variables["params"])
    parameters = [Parameter.of(dotted(path), leaf) for path, leaf in leaves]
    names = tuple(parameter.name for parameter in parameters)
    named = {name: leaf for name, (_, leaf) in zip(names, leaves, strict=True)}
    check_untied(named, "Give each an array of its own, or call one layer twice.")
    return Reading(_Form(model, structure, names), parameters, {})


def _tried(call: Callable[[], Any]) -> Any:
    """Return the result of a call of a module, or raise if it needs more than parameters."""
    from flax.errors import FlaxError, InvalidRngError, ScopeCollectionNotFound

    try:
        return call()
    except (InvalidRngError, ScopeCollectionNotFound) as error:
        raise TypeError(
            f"model: expected a function of parameters and inputs; got {error}. {_ADVICE}"
        ) from error
    except FlaxError as error:
        raise ValueError(
            "params: expected those that module.init returns for x of this number of features; got "
            f"{type(error).__name__}: {error}"
        ) from error
    except TypeError as error:
        raise TypeError(
            f"model: expected a module that is called with x alone; got {error}. Set other "
            "arguments when it is made, or wrap it in a module that passes them."
        ) from error
