"""The protocol of a network: named weights and a pure function of them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple, Protocol

import jax

from weightprior import _checks
from weightprior.model.sites import Site, Weights

__all__ = [
    "Head",
    "HiddenLayer",
    "HiddenUnits",
    "Network",
    "chained_layers_of",
    "check_inputs",
    "check_network",
    "constants_of",
    "dense_layers_of",
    "describe_network",
    "flatten_network",
    "head_of",
    "hidden_layers_of",
    "input_columns",
    "offset_of",
    "output_first_of",
    "unflatten_network",
]


class Network(Protocol):
    """Named weights and a pure function of them; it holds no prior.

    A class with these four members is a network, with or without inheriting from this one. Its
    instances must be hashable, or pytrees with numbers as leaves, which are not fitted. Fits
    compute in both precisions: an array that `apply` uses must be such a leaf, or go through
    ``jnp.asarray`` there.

    Attributes
    ----------
    sites : mapping of str to Site
        Every array of weights, by name.
    num_outputs : int
        Number of outputs.
    feature_names : tuple
        A name per input, or 0, 1, ... if there are none.

    Notes
    -----
    A network may have further members. Without these, some functions do less, or raise an error:

    - ``offset``, the index of a column of x that is added to every output and is not an input. The
      axis `feature` of its sites then has all other columns;
    - ``head``, a `Head`: a last linear layer. It may be integrated out, or approximated alone;
    - ``hidden_layers``, a tuple of `HiddenLayer`, with ``hidden_units(weights, x)``, a dict of
      `HiddenUnits` by layer, and ``apply_without(weights, x, layer, unit)``, the outputs with one
      unit held at its mean over the rows: for diagnostics of units and their symmetries;
    - ``check_inputs(x)``, which raises if the network cannot be fitted to these rows;
    - ``describe()``, a dict for JSON: all that the function depends on besides the sites. Fits hold
      it, so that their model is recognised.

    Examples
    --------
    A linear function of sines, in a class of its own:

    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import weightprior as wp
    >>> class Sines:
    ...     sites = {"amplitude": wp.Site((3,), ("frequency",), 3, "weight", "amplitude")}
    ...     num_outputs = 1
    ...     feature_names = (0,)
    ...
    ...     def apply(self, weights, x):
    ...         x = jnp.asarray(x, weights["amplitude"].dtype)
    ...         return jnp.sin(x * jnp.arange(1.0, 4.0)) @ weights["amplitude"][:, None]
    >>> bnn = wp.BNN(Sines(), wp.Gaussian(noise=0.1))
    >>> x = np.linspace(-2, 2, 20)[:, None]
    >>> fit = wp.fit_map(bnn, x, np.sin(2 * x[:, 0]), prior=wp.normal_prior(bnn))
    >>> fit["posterior"]["amplitude"].dims
    ('chain', 'draw', 'frequency')
    """

    @property
    def sites(self) -> Mapping[str, Site]:
        """Every array of weights, by name."""
        ...

    @property
    def num_outputs(self) -> int:
        """Number of outputs."""
        ...

    @property
    def feature_names(self) -> tuple[Any, ...]:
        """A name per input."""
        ...

    def apply(self, weights: Weights, x: Any) -> jax.Array:
        """Compute outputs of shape (rows, outputs), in the precision of the weights.

        The outputs of a row must depend on that row alone: many rows are computed in blocks.
        """
        ...


class Head(NamedTuple):
    """A last linear layer: ``inputs(weights, x) @ weights[weight] + weights[bias]``.

    The outputs are that, plus the network's offset if it has one.

    Attributes
    ----------
    weight, bias : str
        Names of its sites, of shapes (columns, outputs) and (outputs,).
    inputs : callable
        ``inputs(weights, x)``: the inputs of the layer, of shape (rows, columns). They depend on no
        site of the head.
    output_first : bool
        True if the weight has the shape (outputs, columns).
    """

    weight: str
    bias: str
    inputs: Callable[[Weights, Any], jax.Array]
    output_first: bool = False

    @property
    def sites(self) -> tuple[str, str]:
        """Names of both sites."""
        return self.weight, self.bias

    def oriented(self, weight: Any) -> Any:
        """Transpose a weight from its own order of axes to (columns, outputs), or back."""
        return weight.T if self.output_first else weight


class HiddenLayer(NamedTuple):
    """A hidden layer of units that differ only in their weights.

    Attributes
    ----------
    name : str
        Name of the layer, and of the axis of its units.
    num_units : int
        Number of units.
    activation : str or callable
        Name of an activation, or an elementwise function of a JAX array.
    incoming, bias : str
        Sites of shapes (below, units) and (units,).
    outgoing : str or None
        Site of shape (units, above), the only site that uses the units. None if others use them
        too, or if that is not known.
    above : str or None
        The hidden layer that `outgoing` leads to; None if it leads to the outputs.
    output_first : bool
        True if `incoming` has the shape (units, below).
    """

    name: str
    num_units: int
    activation: Any
    incoming: str
    bias: str
    outgoing: Any = None
    above: str | None = None
    output_first: bool = False

    def incoming_of(self, weights: Mapping[str, Any]) -> Any:
        """Return incoming weights by unit, of shape (..., units, below)."""
        found = weights[self.incoming]
        return found if self.output_first else found.swapaxes(-1, -2)


class HiddenUnits(NamedTuple):
    """Inputs of a layer's activations and their outputs, each of shape (rows, units)."""

    pre: jax.Array
    post: jax.Array


_MEMBERS = ("sites", "num_outputs", "feature_names", "apply")


def check_network(network: Any) -> None:
    """Raise if something else was passed as a network."""
    missing = [name for name in _MEMBERS if not hasattr(network, name)]
    if missing or isinstance(network, type):
        told = f", which has no {missing[0]!r}" if missing and network is not None else ""
        if isinstance(network, type):
            told = ", a class: pass an instance of it"
        wrapped = ""
        if callable(network) and not isinstance(network, type):  # a module of another library
            wrapped = " For a module, write a class with these, as weightprior.Network shows."
        raise TypeError(
            "network: expected a network, as weightprior.mlp(...) makes, or an object with "
            f"{', '.join(_MEMBERS)}; got {network!r}{told}.{wrapped}"
        )
    offset, count = offset_of(network), len(network.feature_names)
    if offset is not None and not (isinstance(offset, Integral) and 0 <= offset < count):
        raise TypeError(
            "network: expected for its `offset` the index of a column of x, which is added to the "
            f"outputs; got {offset!r}. If it is something else, rename it."
        )
    numbers, structure = flatten_network(network)
    try:
        hash(structure)
    except TypeError as error:
        raise TypeError(
            f"network: expected a hashable object or a pytree, so that it is compiled once; got "
            f"{network!r} ({error}). Make its class a frozen dataclass or, if it holds arrays, a "
            "pytree, by jax.tree_util.register_dataclass."
        ) from None
    _checks.leaves("network", numbers, "Mark fields that are no numbers as metadata of the pytree.")


def head_of(network: Network) -> Head | None:
    """Return a network's last linear layer; None if it names none."""
    return getattr(network, "head", None)


def output_first_of(network: Network) -> Collection[str]:
    """Return the names of weights that have the outputs as their first axis."""
    return getattr(network, "output_first", ())


def constants_of(network: Network) -> Collection[str]:
    """Return the names of parameters that the network keeps fixed."""
    return getattr(network, "constants", ())


def offset_of(network: Network) -> int | None:
    """Return the index of the column of x that is added to the outputs; None without one."""
    return getattr(network, "offset", None)


def input_columns(network: Network) -> list[int]:
    """Return the indices of the columns of x that are inputs: all but the offset."""
    offset = offset_of(network)
    return [i for i in range(len(network.feature_names)) if i != offset]


def check_inputs(network: Network, x: Any) -> None:
    """Raise if a network says that it cannot be fitted to these rows."""
    if check := getattr(network, "check_inputs", None):
        check(x)


def hidden_layers_of(network: Network) -> tuple[HiddenLayer, ...] | None:
    """Return a network's hidden layers; None if these are not known."""
    return getattr(network, "hidden_layers", None)


def chained_layers_of(network: Network) -> tuple[HiddenLayer, ...] | None:
    """Return hidden layers that lead only to each other in turn; None for other networks."""
    layers = hidden_layers_of(network)
    told = layers is not None and all(layer.outgoing is not None for layer in layers)
    return layers if told else None


def describe_network(network: Network) -> dict[str, Any]:
    """Describe all that a network's function depends on besides its sites."""
    describe = getattr(network, "describe", None)
    return {"class": type(network).__name__} if describe is None else describe()


def dense_layers_of(network: Network) -> list[tuple[str, str]] | None:
    """Return weight and bias of each layer of a perceptron, in order; None for other networks."""
    hidden, head = chained_layers_of(network), head_of(network)
    if hidden is None or head is None:
        return None
    layers = [*((layer.incoming, layer.bias) for layer in hidden), head.sites]
    return layers if {*network.sites} == {name for pair in layers for name in pair} else None


def flatten_network(network: Network) -> tuple[list[Any], Any]:
    """Split a network into its numbers, which are traced, and structure."""
    numbers, structure = jax.tree.flatten(network)
    if jax.tree_util.treedef_is_leaf(structure):  # not a pytree: part of the structure itself
        return [], network
    return numbers, structure


def unflatten_network(structure: Any, numbers: Sequence[Any]) -> Network:
    """Rebuild a network from the results of `flatten_network`."""
    if isinstance(structure, jax.tree_util.PyTreeDef):
        return structure.unflatten(numbers)
    return structure
