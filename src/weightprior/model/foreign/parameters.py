"""Parameters of a network from elsewhere: names, and what each of them is in its layer."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightprior import _checks
from weightprior.model.sites import Site

__all__ = [
    "Original",
    "Parameter",
    "Reading",
    "as_array",
    "by_name",
    "check_no_key",
    "check_untied",
    "kind_of",
    "name_of",
    "real",
    "sites_of",
    "turned",
]

_BIASES = ("b", "beta", "offset")
_GAINS = ("scale", "gain", "gamma")
_WEIGHTS = ("w", "weight", "kernel", "embedding")


# Layers by the names of their classes, or by those that people give them.
_NORM = r"(layer|group|rms|instance|batch)?_?norm(alization)?|[lbg]n"
_EMBEDDING = r"emb(ed(ding)?s?)?"


def _is_called(pattern: str, name: str) -> bool:
    """Tell if a layer is called so, whatever its number."""
    return re.fullmatch(rf"({pattern})_?\d*d?", name.lower()) is not None


def name_of(path: Sequence[Any]) -> str:
    """Write a path with dots; slashes, which a fit cannot hold, become dots as well."""
    return ".".join(map(str, path)).replace("/", ".")


class Original(NamedTuple):
    """The kind of array that a library holds a parameter in, and its precision."""

    kind: Callable[[Any], Any]
    dtype: Any

    @classmethod
    def of(cls, value: Any) -> "Original":
        """Read it off an array."""
        if hasattr(value, "detach"):
            return cls(sys.modules["torch"].as_tensor, as_array(value).dtype)
        return cls(jnp.asarray if isinstance(value, jax.Array) else np.asarray, value.dtype)

    def __call__(self, array: Any) -> Any:
        """Return an array of that kind and precision."""
        return self.kind(np.asarray(array).astype(self.dtype))


class Parameter(NamedTuple):
    """A parameter of a network, as its library holds it.

    Attributes
    ----------
    path : tuple of str
        Where it stands, layer by layer; its own name last.
    value : array
        Its numbers.
    original : Original
        What it is made of.
    owner : str
        Class of the layer that has it; empty where the library does not tell.
    output_first : bool
        Whether the first axis of a weight is that of the outputs.
    """

    path: tuple[str, ...]
    value: np.ndarray
    original: Original
    owner: str = ""
    output_first: bool = False

    @classmethod
    def of(
        cls, path: Sequence[str], leaf: Any, owner: str = "", output_first: bool = False
    ) -> "Parameter":
        """Read a leaf; a number is an array without axes."""
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        if not hasattr(leaf, "detach"):
            check_no_key(name_of(path), leaf)
        return cls(tuple(path), as_array(leaf), Original.of(leaf), owner, output_first)

    @property
    def name(self) -> str:
        """The path with dots."""
        return name_of(self.path)

    @property
    def layer(self) -> str:
        """The path of the layer, or the name where there is none."""
        return name_of(self.path[:-1]) or self.name

    @property
    def of_norm(self) -> bool:
        """Tell if the layer standardises its inputs; of a name alone, only with a line of units."""
        if self.owner:
            return _is_called(_NORM, self.owner)
        return self.value.ndim < 2 and any(_is_called(_NORM, name) for name in self.path[-2:-1])

    @property
    def of_embedding(self) -> bool:
        """Tell if rows of this are looked up."""
        return self.path[-1] == "embedding" or any(
            _is_called(_EMBEDDING, name) for name in (self.owner or "".join(self.path[-2:-1]),)
        )


class Reading(NamedTuple):
    """A network of a library's, read.

    Attributes
    ----------
    form : Form
        How it is called; of `form`.
    parameters : sequence of Parameter
        What may be fitted.
    constants : dict of str to array
        Arrays that are none of its parameters.
    """

    form: Any
    parameters: Sequence[Parameter]
    constants: dict[str, Any]


def check_no_key(name: str, value: Any) -> None:
    """Raise where this is a key of random numbers."""
    if jnp.issubdtype(getattr(value, "dtype", np.float64), jax.dtypes.prng_key):
        raise TypeError(
            f"model: expected a fixed function; got a key of random numbers, {name!r}. A posterior "
            "is that of a fixed function: take the key out, and what draws from it."
        )


def as_array(value: Any) -> np.ndarray:
    """Return a parameter's array as numpy's; a tensor of PyTorch may stand on another device."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def real(name: str, array: np.ndarray) -> np.ndarray:
    """Return a parameter's numbers in double precision, or raise where it cannot be sampled."""
    if jnp.issubdtype(array.dtype, jnp.floating):  # those of JAX's own, such as bfloat16, too
        return array.astype(np.float64)
    if array.dtype.kind in "biu":
        advice = f"Hold it at its value, fixed={{{name!r}: ...}}, or leave it out of the parameters"
    elif array.dtype.kind == "c":
        advice = "Write it as two real ones"
    else:
        advice = "Leave it out of the parameters"
    raise TypeError(
        f"params[{name!r}]: expected real numbers, which a Gaussian can be put on; got dtype "
        f"{array.dtype}. {advice}."
    )


def by_name(parameters: Sequence[Parameter]) -> dict[str, Parameter]:
    """Return the parameters by their names, or raise where two have one."""
    found: dict[str, Parameter] = {}
    for parameter in parameters:
        if parameter.name in found:
            raise ValueError(
                "model: expected a name for every parameter; got "
                f"{found[parameter.name].path} and {parameter.path}, which are both "
                f"{parameter.name!r} with dots. Rename one of them."
            )
        found[parameter.name] = parameter
    return found


def check_untied(leaves: Mapping[str, Any], advice: str) -> None:
    """Raise where one array stands in two places, which would be sampled apart."""
    first: dict[Any, str] = {}
    for name, leaf in leaves.items():
        address = leaf.data_ptr() if hasattr(leaf, "data_ptr") else id(leaf)
        if hasattr(leaf, "dtype") and first.setdefault(address, name) != name:
            raise ValueError(
                f"model: expected parameters that are not tied; got one array as "
                f"{first[address]!r} and {name!r}. {advice}"
            )


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
        By name or layer, in place of what follows from path and shape.
    """
    layers = {parameter.layer for parameter in parameters.values()}
    given = {"kinds": kinds or {}, "fan_ins": fan_ins or {}}
    for argument, values in given.items():
        _checks.known_names(argument, values, [*parameters, *sorted(layers - {*parameters})])
    for name, kind in given["kinds"].items():
        if not isinstance(kind, str) or not kind:
            raise TypeError(f"kinds[{name!r}]: expected a word; got {kind!r}.")
    found = {}
    for name, parameter in parameters.items():
        kind = _given(given["kinds"], parameter) or kind_of(parameter)
        fan_in = _given(given["fan_ins"], parameter)
        if fan_in is None:
            fan_in = _fan_in(parameter, parameters) if kind == "weight" else None
        else:
            fan_in = _checks.integer(f"fan_ins[{name!r}]", fan_in, 1)
        found[name] = Site(
            parameter.value.shape, _dims(parameter, parameters), fan_in, kind, parameter.layer
        )
    return found


def _given(values: Mapping[str, Any], parameter: Parameter) -> Any:
    return values.get(parameter.name, values.get(parameter.layer))


def kind_of(parameter: Parameter) -> str:
    """Return what a parameter is in its layer, by its name, its layer and its shape."""
    leaf, is_line = parameter.path[-1].lower(), parameter.value.ndim < 2
    # A list of a weight and a bias has numbers for names, and flat parameters have b1 and W1.
    word = leaf.rstrip("0123456789_")
    if leaf.startswith("bias") or (is_line and (word in _BIASES or leaf.isdigit())):
        return "bias"
    if parameter.of_norm or leaf in _GAINS:
        return "gain"
    if parameter.value.ndim > 1 or leaf.startswith(_WEIGHTS):
        return "weight"
    # A word of its own, that no part of a model has already.
    return parameter.path[-1] if parameter.path[-1] not in ("latent", parameter.name) else "other"


def _num_output_axes(parameter: Parameter, parameters: Mapping[str, Parameter]) -> int:
    """Number of axes of the units: those of a bias beside, which attention has several of."""
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
    """Tell if weights of several layers stand one after another, as their biases beside them do."""
    shape = parameter.value.shape
    units = shape[1:2] if parameter.output_first else shape[-1:]
    return len(shape) == 3 and any(
        other.value.shape == (shape[0], *units) != shape[-2:]
        for other in parameters.values()
        if other.layer == parameter.layer and kind_of(other) == "bias"
    )


def _fan_in(parameter: Parameter, parameters: Mapping[str, Parameter]) -> int:
    """Number of inputs that a unit sums up: of a row that is looked up, one."""
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
    """Axes, of which that of a layer's units has a name in common, which no number of a fit has."""
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


def turned(array: np.ndarray, *, to_output_first: bool) -> np.ndarray:
    """Turn a weight (outputs, inputs, *window) to (*window, inputs, outputs), or back."""
    if to_output_first:
        return np.moveaxis(array, (-1, -2), (0, 1))
    return np.moveaxis(array, (0, 1), (-1, -2))
