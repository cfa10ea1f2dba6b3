"""A linearised network, with which Laplace's approximation predicts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from weightprior.model.network import (
    HiddenLayer,
    HiddenUnits,
    Network,
    describe_network,
    flatten_network,
    hidden_layers_of,
    offset_of,
    unflatten_network,
)
from weightprior.model.sites import Site, Weights

__all__ = ["linearised"]


def linearised(bnn: Any, center: Mapping[str, Any]) -> Any:
    """Replace the network of a model, a BNN, by its tangent at some weights."""
    held = {name: center[name] for name in bnn.network.sites}
    return replace(bnn, network=_Tangent(bnn.network, held))


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class _Tangent:
    """The tangent of a network at `center`, as a function of the weights."""

    network: Network
    center: Mapping[str, Any]

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        """Split into traced numbers and structure."""
        numbers, structure = flatten_network(self.network)
        return (self.center, *numbers), structure

    @classmethod
    def tree_unflatten(cls, structure, children):
        """Rebuild from traced numbers and structure."""
        center, *numbers = children
        return cls(unflatten_network(structure, numbers), center)

    @property
    def sites(self) -> Mapping[str, Site]:
        """Sites of the network."""
        return self.network.sites

    @property
    def num_outputs(self) -> int:
        """Number of outputs."""
        return self.network.num_outputs

    @property
    def feature_names(self) -> tuple[Any, ...]:
        """A name per input."""
        return self.network.feature_names

    @property
    def offset(self) -> int | None:
        """The offset of the network."""
        return offset_of(self.network)

    @property
    def hidden_layers(self) -> tuple[HiddenLayer, ...] | None:
        """Hidden layers of the network."""
        return hidden_layers_of(self.network)

    def describe(self) -> dict[str, Any]:
        """Describe the network that is linearised."""
        return describe_network(self.network)

    def apply(self, weights: Weights, x: Any) -> jax.Array:
        """Compute the outputs of the tangent."""
        return self._tangent(lambda given: self.network.apply(given, x), weights)

    def hidden_units(self, weights: Weights, x: Any) -> dict[str, HiddenUnits]:
        """Return the inputs of activations at the centre, and the outputs of the tangent."""
        network: Any = self.network
        touched = network.hidden_units(self.center, x)
        found = self._tangent(lambda given: network.hidden_units(given, x), weights)
        return {layer: HiddenUnits(touched[layer].pre, found[layer].post) for layer in found}

    def apply_without(self, weights: Weights, x: Any, layer: str, unit: Any) -> jax.Array:
        """Compute the outputs of the tangent of the network without a unit."""
        network: Any = self.network
        return self._tangent(lambda given: network.apply_without(given, x, layer, unit), weights)

    def _tangent(self, function: Callable[[Weights], Any], weights: Weights) -> Any:
        center = {n: jnp.asarray(self.center[n], weights[n].dtype) for n in self.network.sites}
        moved = {name: weights[name] - center[name] for name in center}
        return jax.tree.map(jnp.add, *jax.jvp(function, (center,), (moved,)))
