"""Parameters of a network from elsewhere: their names, and their roles in their layers."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "Original",
    "Parameter",
    "Reading",
    "as_array",
    "by_name",
    "check_no_key",
    "check_untied",
    "name_of",
    "real",
    "turned",
]


# Layers by the names of their classes, or by names that users commonly give them.
_NORM = r"(layer|group|rms|instance|batch)?_?norm(alization)?|[lbg]n"
_EMBEDDING = r"emb(ed(ding)?s?)?"


def _is_called(pattern: str, name: str) -> bool:
    """Tell if a layer's name matches a pattern, whatever its number."""
    return re.fullmatch(rf"({pattern})_?\d*d?", name.lower()) is not None


def name_of(path: Sequence[Any]) -> str:
    """Write a path with dots; slashes, which a fit cannot hold, become dots as well."""
    return ".".join(map(str, path)).replace("/", ".")


class Original(NamedTuple):
    """The kind of array in which a library holds a parameter, and its precision."""

    kind: Callable[[Any], Any]
    dtype: Any

    @classmethod
    def of(cls, value: Any) -> "Original":
        """Read kind and precision of an array."""
        if hasattr(value, "detach"):
            return cls(sys.modules["torch"].as_tensor, as_array(value).dtype)
        return cls(jnp.asarray if isinstance(value, jax.Array) else np.asarray, value.dtype)

    def __call__(self, array: Any) -> Any:
        """Return an array in that kind and precision."""
        return self.kind(np.asarray(array).astype(self.dtype))


class Parameter(NamedTuple):
    """A parameter of a network, as its library holds it.

    Attributes
    ----------
    path : tuple of str
        Position in the network, layer by layer; its own name last.
    value : array
        Its numbers.
    original : Original
        The kind of array that holds it.
    owner : str
        Class of its layer; empty if the library does not tell.
    output_first : bool
        True if the first axis of a weight is that of the outputs.
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
        """The path of the layer, or the name if there is none."""
        return name_of(self.path[:-1]) or self.name

    @property
    def of_norm(self) -> bool:
        """True if the layer standardises its inputs; by its name, only with one axis of units."""
        if self.owner:
            return _is_called(_NORM, self.owner)
        return self.value.ndim < 2 and any(_is_called(_NORM, name) for name in self.path[-2:-1])

    @property
    def of_embedding(self) -> bool:
        """True if its rows are looked up."""
        return self.path[-1] == "embedding" or any(
            _is_called(_EMBEDDING, name) for name in (self.owner or "".join(self.path[-2:-1]),)
        )


class Reading(NamedTuple):
    """A network of a library after reading.

    Attributes
    ----------
    form : Form
        The way to call it: see the module `form`.
    parameters : sequence of Parameter
        Parameters that may be fitted.
    constants : dict of str to array
        Arrays that are not parameters.
    """

    form: Any
    parameters: Sequence[Parameter]
    constants: dict[str, Any]


def check_no_key(name: str, value: Any) -> None:
    """Raise if a value is a key of random numbers."""
    if jnp.issubdtype(getattr(value, "dtype", np.float64), jax.dtypes.prng_key):
        raise TypeError(
            f"model: expected a fixed function; got a key of random numbers, {name!r}. A posterior "
            "needs a fixed function: take out the key, and all code that draws from it."
        )


def as_array(value: Any) -> np.ndarray:
    """Return a parameter's array as a NumPy array; a PyTorch tensor may be on another device."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def real(name: str, array: np.ndarray) -> np.ndarray:
    """Return a parameter's numbers in double precision, or raise if it cannot be sampled."""
    if jnp.issubdtype(array.dtype, jnp.floating):  # JAX's own types too, such as bfloat16
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
    """Return the parameters by their names, or raise if two have the same."""
    found: dict[str, Parameter] = {}
    for parameter in parameters:
        if parameter.name in found:
            raise ValueError(
                "model: expected a name for every parameter; got two that are called "
                f"{parameter.name!r}, once their paths are written with dots. Rename one of them."
            )
        found[parameter.name] = parameter
    return found


def check_untied(leaves: Mapping[str, Any], advice: str) -> None:
    """Raise if one array is in two places, which would be sampled separately."""
    first: dict[Any, str] = {}
    for name, leaf in leaves.items():
        if hasattr(leaf, "dtype") and first.setdefault(_address(leaf), name) != name:
            raise ValueError(
                f"model: expected parameters that are not tied; got one array as "
                f"{first[_address(leaf)]!r} and {name!r}. {advice}"
            )


def _address(leaf: Any) -> int:
    """Return the memory address of an array, which a view such as a transpose shares."""
    if hasattr(leaf, "data_ptr"):
        return leaf.data_ptr()
    if isinstance(leaf, np.ndarray) and leaf.size:
        return leaf.__array_interface__["data"][0]
    return id(leaf)


def turned(array: np.ndarray, *, to_output_first: bool) -> np.ndarray:
    """Transpose a weight (outputs, inputs, *window) to (*window, inputs, outputs), or back."""
    if to_output_first:
        return np.moveaxis(array, (-1, -2), (0, 1))
    return np.moveaxis(array, (0, 1), (-1, -2))
