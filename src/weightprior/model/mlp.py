"""Multi-layer perceptrons: the networks that this package defines itself."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from weightprior import _checks
from weightprior.model.activations import (
    Activation,
    activation_function,
    checked_activations,
    describe_activation,
)
from weightprior.model.features import checked_features
from weightprior.model.network import Head, HiddenLayer, HiddenUnits
from weightprior.model.sites import Site, Weights

__all__ = ["MLP", "mlp"]


@dataclass(frozen=True)
class MLP:
    """A multi-layer perceptron with linear outputs. Made by `mlp`.

    Attributes
    ----------
    feature_names : tuple
        A name per column of x, or 0, 1, ... if none were given.
    hidden : tuple of int
        Number of units of each hidden layer; empty for a linear model.
    num_outputs : int
        Outputs.
    activations : tuple
        A name or a callable for each hidden layer.
    offset : int or None
        Index of a column of x that is added to every output and is not an input.
    """

    feature_names: tuple[str | int, ...]
    hidden: tuple[int, ...]
    num_outputs: int
    activations: tuple[str | Activation, ...]
    offset: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Drop cached values, which are computed again: some hold functions that pickle refuses."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def num_features(self) -> int:
        """Number of columns of x."""
        return len(self.feature_names)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers: ``hidden_0``, ``hidden_1``, ..., ``output``."""
        return (*(f"hidden_{i}" for i in range(len(self.hidden))), "output")

    @cached_property
    def sites(self) -> dict[str, Site]:
        """Name of every weight array, in the order of the layers, with its `Site`."""
        sizes = (self.num_features - (self.offset is not None), *self.hidden, self.num_outputs)
        dims = ("feature", *self.layers)
        sites = {}
        for i, layer in enumerate(self.layers):
            fan_in = sizes[i]
            sites[f"{layer}.weight"] = Site(
                sizes[i : i + 2], dims[i : i + 2], fan_in, "weight", layer
            )
            sites[f"{layer}.bias"] = Site(
                sizes[i + 1 : i + 2], dims[i + 1 : i + 2], fan_in, "bias", layer
            )
        return sites

    def apply(self, weights: Weights, x: jax.Array) -> jax.Array:
        """Compute the outputs of the network.

        Parameters
        ----------
        weights : mapping of str to array
            An array for every site.
        x : array of shape (rows, features)
            Inputs, used in the precision of the weights.

        Returns
        -------
        array of shape (rows, outputs)

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> import weightprior as wp
        >>> network = wp.mlp(2, hidden=(3,))
        >>> weights = {name: jnp.ones(site.shape) for name, site in network.sites.items()}
        >>> network.apply(weights, jnp.zeros((5, 2))).shape
        (5, 1)
        """
        return self._forward(weights, x)[0]

    def hidden_units(self, weights: Weights, x: jax.Array) -> dict[str, HiddenUnits]:
        """Compute pre- and post-activations of every hidden layer.

        Parameters
        ----------
        weights : mapping of str to array
            An array for every site.
        x : array of shape (rows, features)
            Inputs.

        Returns
        -------
        dict of str to HiddenUnits
            By layer name; each holds two arrays of shape (rows, units).
        """
        return self._forward(weights, x)[1]

    @property
    def head(self) -> Head:
        """The output layer."""
        return Head("output.weight", "output.bias", self._last_signal)

    @cached_property
    def hidden_layers(self) -> tuple[HiddenLayer, ...]:
        """The hidden layers, inputs first."""
        layers = self.layers
        return tuple(
            HiddenLayer(
                layer,
                self.hidden[i],
                activation_function(self.activations[i]),
                f"{layer}.weight",
                f"{layer}.bias",
                f"{layers[i + 1]}.weight",
                layers[i + 1] if i + 1 < len(self.hidden) else None,
            )
            for i, layer in enumerate(layers[:-1])
        )

    def apply_without(self, weights: Weights, x: jax.Array, layer: str, unit: Any) -> jax.Array:
        """Compute outputs with one unit of a hidden layer held at its mean over the rows."""
        mean = self.hidden_units(weights, x)[layer].post.mean(axis=0)[unit]
        above = self.layers[self.layers.index(layer) + 1]
        following, bias = f"{above}.weight", f"{above}.bias"
        outgoing = weights[following]
        stays = (jnp.arange(len(outgoing)) != unit)[:, None]
        changed = {
            following: jnp.where(stays, outgoing, 0.0),
            bias: weights[bias] + mean * outgoing[unit],  # the bias takes over the mean
        }
        return self.apply({**weights, **changed}, x)

    def describe(self) -> dict[str, Any]:
        """Describe the activations and the offset, which are not in the sites."""
        told: dict[str, Any] = {"activations": [describe_activation(a) for a in self.activations]}
        return told if self.offset is None else told | {"offset": self.offset}

    def _last_signal(self, weights: Weights, x: jax.Array) -> jax.Array:
        """Compute the input of the output layer."""
        if not self.hidden:
            return self._inputs(jnp.asarray(x, dtype=weights["output.weight"].dtype))
        return self._forward(weights, x)[1][self.layers[-2]].post

    def _inputs(self, x: jax.Array) -> jax.Array:
        """Return the columns that the first layer uses."""
        if self.offset is None:
            return x
        return jnp.concatenate([x[:, : self.offset], x[:, self.offset + 1 :]], axis=1)

    def _forward(self, weights: Weights, x: jax.Array):
        weights = _checks.arrays("weights", weights, self.sites)
        _checks.input_shape(np.shape(x), self.num_features)
        units = {}
        x = jnp.asarray(x, dtype=weights["output.weight"].dtype)
        signal = self._inputs(x)
        # Transposed once, for the products of the gradient.
        product = partial(_product, jax.lax.optimization_barrier(signal.T))
        for layer, activation in zip(self.layers, (*self.activations, "identity"), strict=True):
            pre = product(signal, weights[f"{layer}.weight"]) + weights[f"{layer}.bias"][None, :]
            signal, product = activation_function(activation)(pre), jnp.matmul
            units[layer] = HiddenUnits(pre, signal)
        del units["output"]
        return signal if self.offset is None else signal + x[:, self.offset, None], units


def mlp(
    num_features: int | Sequence[str],
    hidden: Sequence[int] = (32,),
    num_outputs: int = 1,
    activation: str | Activation | Sequence[str | Activation] = "tanh",
    offset: str | int | None = None,
) -> MLP:
    """Describe a multi-layer perceptron with linear outputs.

    Parameters
    ----------
    num_features : int or sequence of str
        Number of columns of x, or their names (a data frame's ``columns``).
    hidden : sequence of int
        Number of units of each hidden layer. Empty: a linear model.
    num_outputs : int
        Outputs: one per target, class logits, or two for a heteroscedastic likelihood.
    activation : str, callable, or a sequence of them
        ``"tanh"``, ``"sigmoid"``, ``"relu"``, ``"softplus"``, ``"silu"``, ``"gelu"``,
        ``"identity"``, or an elementwise function of a JAX array; one for all hidden layers or
        one per layer.
    offset : str or int, optional
        Name or index of a column of x that is added to every output, in the units of the outputs,
        and is not an input. For counts this is the log of an exposure. It counts among
        `num_features`.

    Returns
    -------
    MLP
        Its `sites` name every weight array; `apply` computes the outputs.

    Raises
    ------
    ValueError, TypeError
        If a count is not positive, if a name is unknown or doubled, if the numbers of activations
        and hidden layers differ, or if the offset is no column or the only one.

    Examples
    --------
    >>> import weightprior as wp
    >>> network = wp.mlp(["age", "dose"], hidden=(8, 4), activation=["tanh", "relu"])
    >>> network.sites["hidden_1.weight"]
    Site(shape=(8, 4), dims=('hidden_0', 'hidden_1'), fan_in=8, kind='weight', layer='hidden_1')

    Claims per policy holder: the output is the log of a rate, and the log of the number of holders
    is added.

    >>> network = wp.mlp(["age", "district", "log_holders"], (8,), offset="log_holders")
    >>> network.sites["hidden_0.weight"].shape
    (2, 8)
    """
    if isinstance(hidden, int | str) or not hasattr(hidden, "__iter__"):
        raise TypeError(
            f"hidden: expected a sequence of layer widths, such as (32,) or (); got {hidden!r}."
        )
    widths = tuple(_checks.integer(f"hidden[{i}]", h, 1) for i, h in enumerate(hidden))
    names = checked_features("num_features", num_features)
    return MLP(
        names,
        widths,
        _checks.integer("num_outputs", num_outputs, 1),
        checked_activations(activation, len(widths)),
        None if offset is None else _offset(offset, names),
    )


@jax.custom_jvp
def _product(transposed: jax.Array, inputs: jax.Array, weight: jax.Array) -> jax.Array:
    """Multiply inputs by a weight; their transpose gives the gradient with respect to the weight.

    On CPUs, XLA is up to three times as slow if it sums over the first axis of both factors.
    """
    return inputs @ weight


def _product_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    transposed, inputs, weight = primals
    _, of_inputs, of_weight = tangents
    product = inputs @ weight
    change = jnp.zeros_like(product)
    if type(of_inputs) is not SymbolicZero:
        change += of_inputs @ weight
    if type(of_weight) is not SymbolicZero:
        change += jax.lax.dot_general(transposed, of_weight, (((0,), (0,)), ((), ())))
    return product, change


_product.defjvp(_product_jvp, symbolic_zeros=True)


def _offset(offset: Any, names: tuple[str | int, ...]) -> int:
    """Return the index of a column that was given by its name or index."""
    if isinstance(offset, str):
        _checks.known_names("offset", [offset], [name for name in names if isinstance(name, str)])
        offset = names.index(offset)
    index = _checks.integer("offset", offset, 0)
    if index >= len(names):
        raise ValueError(
            f"offset: expected the index of a column, at most {len(names) - 1}; got {index}. It "
            "counts among num_features."
        )
    if len(names) == 1:
        raise ValueError(
            "offset: expected a column beside at least one input; got the only one of "
            "num_features=1. Count the offset among num_features, which makes them 2."
        )
    return index
