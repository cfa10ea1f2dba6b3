"""Networks of Equinox, which are called with one row at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from weightprior.model.foreign.form import Readout, comes_from, dotted, with_identity
from weightprior.model.foreign.parameters import Parameter, Reading, check_no_key, check_untied

__all__ = ["matches", "outputs_of", "parameters_of", "read"]


def matches(model: Any) -> bool:
    """Tell if this is a module."""
    return comes_from(model, "equinox")


@dataclass(frozen=True)
class _Form:
    """A tree of modules, without its arrays."""

    structure: Any
    # Names of the leaves; with the leaf itself if it is no array.
    leaves: tuple[tuple[str, Any], ...]
    library: str = "equinox"

    def call(self, arrays: Mapping[str, Any], x: jax.Array) -> jax.Array:
        return self._of_rows(_inputs_first(arrays), x)

    def signal(self, arrays: Mapping[str, Any], x: jax.Array, layer: Readout) -> jax.Array:
        return self._of_rows(with_identity(_inputs_first(arrays), layer), x)

    def _of_rows(self, arrays: Mapping[str, Any], x: jax.Array) -> jax.Array:
        return jax.vmap(self.build(arrays))(x)

    def build(self, arrays: Mapping[str, Any]) -> Any:
        leaves = [arrays[name] if leaf is None else leaf for name, leaf in self.leaves]
        return jax.tree.unflatten(self.structure, leaves)


def _inputs_first(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out matrices in memory with inputs first, as a product with all rows reads them.

    Equinox stores outputs first. Without this, XLA multiplies rows by matrices in that order, which
    takes a third longer.
    """
    return {
        name: jax.lax.optimization_barrier(a.T).T if np.ndim(a) == 2 else a
        for name, a in arrays.items()
    }


def read(model: Any, params: Any, num_features: int) -> Reading:
    """Read a module."""
    if params is not None:
        raise TypeError(
            "params: expected none beside a module of Equinox, which holds its own; got "
            f"{type(params).__name__}. Put them into it: equinox.combine(params, model)."
        )
    _check_fixed_function(model)
    found, structure = jax.tree.flatten_with_path(model)
    leaves = [(".".join(dotted(path)), leaf) for path, leaf in found]
    check_untied(dict(leaves), "Tie them by equinox.nn.Shared, which holds one.")
    parameters = parameters_of(model)
    own = {parameter.name for parameter in parameters}
    constants = {name: leaf for name, leaf in leaves if _is_array(leaf) and name not in own}
    for name, leaf in constants.items():
        check_no_key(name, leaf)
    static = tuple((name, None if _is_array(leaf) else leaf) for name, leaf in leaves)
    return Reading(_Form(structure, static), parameters, constants)


def outputs_of(model: Any, x: jax.Array) -> jax.Array:
    """Compute the outputs of a trained module for every row."""
    import equinox

    return jax.vmap(equinox.nn.inference_mode(model))(x)


def parameters_of(model: Any) -> list[Parameter]:
    """Return the parameters of a module: its arrays of real numbers."""
    import equinox

    found = []
    for path, leaf in jax.tree.flatten_with_path(model)[0]:
        if equinox.is_inexact_array(leaf):
            names = dotted(path)
            found.append(Parameter.of(names, leaf, type(_owner(model, path)).__name__, True))
    return found


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _owner(model: Any, path: tuple[Any, ...]) -> Any:
    for step in path[:-1]:
        if hasattr(step, "name"):
            model = getattr(model, step.name)
        else:
            model = model[step.idx if hasattr(step, "idx") else step.key]
    return model


def _check_fixed_function(model: Any) -> None:
    """Raise if a layer keeps a state, or draws random numbers."""
    import equinox

    def is_layer(node):
        return isinstance(node, equinox.nn.StateIndex | equinox.nn.Dropout)

    for path, node in jax.tree.flatten_with_path(model, is_leaf=is_layer)[0]:
        where = jax.tree_util.keystr(path)
        if isinstance(node, equinox.nn.StateIndex):
            raise TypeError(
                f"model: expected no layer with a state; got one at model{where}, as BatchNorm "
                "has. Rows must not depend on each other: use LayerNorm or GroupNorm."
            )
        if isinstance(node, equinox.nn.Dropout) and not node.inference and node.p != 0:
            raise TypeError(
                f"model: expected a fixed function; got a Dropout at model{where}, which draws "
                "random numbers. Switch it off: equinox.nn.inference_mode(model)."
            )
