"""Sites of parameters from elsewhere: kind, fan-in and axes, from path and shape."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from weightprior import _checks
from weightprior.model.foreign.parameters import Parameter
from weightprior.model.sites import Site

__all__ = ["kind_of", "sites_of"]

_BIASES = ("b", "beta", "offset")
_GAINS = ("scale", "gain", "gamma")
_WEIGHTS = ("w", "weight", "kernel", "embedding")


def sites_of(
    parameters: Mapping[str, Parameter],
    kinds: Mapping[str, str] | None,
    fan_ins: Mapping[str, int] | None,
) -> dict[str, Site]:
    """Describe every parameter: axes, fan-in, kind and layer.

    Parameters
    ----------
    parameters : mapping of str to Parameter
        By name.
    kinds, fan_ins : mapping of str
        Values by name or part, which replace those from path and shape.
    """
    known = dict.fromkeys(part for name in parameters for part in _parts(name))
    given = {"kinds": kinds or {}, "fan_ins": fan_ins or {}}
    for argument, values in given.items():
        _checks.known_names(argument, values, known)
    for name, number in given["fan_ins"].items():
        _checks.integer(f"fan_ins[{name!r}]", number, 1)
    for name, kind in given["kinds"].items():
        if not isinstance(kind, str) or not kind:
            raise TypeError(f"kinds[{name!r}]: expected a word; got {kind!r}.")
    found = {}
    for name, parameter in parameters.items():
        kind = _given(given["kinds"], name) or kind_of(parameter)
        fan_in = None
        if kind == "weight":
            fan_in = _given(given["fan_ins"], name) or _fan_in(parameter, parameters)
        found[name] = Site(
            parameter.value.shape, _dims(parameter, parameters), fan_in, kind, parameter.layer
        )
    return found


def _given(values: Mapping[str, Any], name: str) -> Any:
    """Return the value given for a parameter or, without one, for the smallest part around it."""
    return next((values[part] for part in _parts(name) if part in values), None)


def _parts(name: str) -> list[str]:
    """Return the name, and the names of the parts around it, the smallest first."""
    steps = name.split(".")
    return [".".join(steps[:i]) for i in range(len(steps), 0, -1)]


def kind_of(parameter: Parameter) -> str:
    """Return the kind of a parameter, by its name, its layer and its shape."""
    leaf, is_line = parameter.path[-1].lower(), parameter.value.ndim < 2
    # In a list of a weight and a bias, names are numbers; flat parameters have names like b1 and
    # W1.
    word = leaf.rstrip("0123456789_")
    if leaf.startswith("bias") or (is_line and (word in _BIASES or leaf.isdigit())):
        return "bias"
    if parameter.of_norm or leaf in _GAINS:
        return "gain"
    if parameter.value.ndim > 1 or leaf.startswith(_WEIGHTS):
        return "weight"
    # Its own name as a new kind, unless a part of a model has that name already.
    return parameter.path[-1] if parameter.path[-1] not in ("latent", parameter.name) else "other"


def _num_output_axes(parameter: Parameter, parameters: Mapping[str, Parameter]) -> int:
    """Count the axes of the units: those of the layer's bias; attention has several."""
    shape = parameter.value.shape
    for other in parameters.values():
        own = tuple(n for n in other.value.shape if n > 1)
        beside = other.layer == parameter.layer and other.name != parameter.name
        if beside and kind_of(other) == "bias" and 0 < other.value.ndim < len(shape):
            if other.value.shape == shape[-other.value.ndim :] and not parameter.output_first:
                return other.value.ndim
            if parameter.output_first and own == shape[:1]:
                return 1
    return 1


def _is_stack(parameter: Parameter, parameters: Mapping[str, Parameter]) -> bool:
    """Tell if an array stacks the weights of several layers, as the biases beside it do."""
    shape = parameter.value.shape
    units = shape[1:2] if parameter.output_first else shape[-1:]
    return len(shape) == 3 and any(
        other.value.shape == (shape[0], *units) != shape[-2:]
        for other in parameters.values()
        if other.layer == parameter.layer and kind_of(other) == "bias"
    )


def _fan_in(parameter: Parameter, parameters: Mapping[str, Parameter]) -> int:
    """Count the inputs of a unit: one, if a row is looked up."""
    shape = parameter.value.shape
    if parameter.of_embedding:
        return 1
    if len(shape) < 2:
        return int(np.prod(shape, dtype=int))
    if _is_stack(parameter, parameters):
        shape = shape[1:]
    units = _num_output_axes(parameter, parameters)
    summed = shape[units:] if parameter.output_first else shape[:-units]
    return int(np.prod(summed, dtype=int))


def _dims(parameter: Parameter, parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
    """Name the axes; all parameters of a layer share the name of the axis of its units."""
    shape, layer = parameter.value.shape, parameter.layer
    dims = [f"{parameter.name}_dim_{axis}" for axis in range(len(shape))]
    sizes = {
        p.value.shape[_unit_axis(p)]
        for p in parameters.values()
        if p.layer == layer and p.value.ndim
    }
    if shape and len(sizes) == 1:
        dims[_unit_axis(parameter)] = f"{layer}_unit"
    return tuple(dims)


def _unit_axis(parameter: Parameter) -> int:
    return 0 if parameter.output_first else -1
