"""A model whose network is straightened out: what Laplace's approximation predicts with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from weightprior._weights import Weights
from weightprior.model import BNN
from weightprior.networks import MLP, HiddenUnits

__all__ = ["Linearised"]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Linearised(BNN):
    """A model whose network is replaced by its tangent at some weights.

    Parameters
    ----------
    network, likelihood
        As of a `BNN`.
    center : mapping of str to array
        Where the tangent touches.
    """

    center: Mapping[str, Any]

    def tree_flatten(self) -> tuple[tuple[Any, ...], MLP]:
        """Split into traced numbers and structure."""
        return (self.likelihood, self.center), self.network

    @classmethod
    def tree_unflatten(cls, network, children):
        """Rebuild from traced numbers and structure."""
        new = super().tree_unflatten(network, children)
        object.__setattr__(new, "center", children[1])
        return new

    def hidden_units(self, weights: Weights, x) -> dict[str, HiddenUnits]:
        """Inputs of the activations where the tangent touches, and what the tangents put out."""
        touched = self.network.hidden_units(self.center, x)
        found = self.through(lambda given: self.network.hidden_units(given, x), weights)
        return {layer: HiddenUnits(touched[layer].pre, found[layer].post) for layer in found}

    def through(self, function: Callable[[Weights], Any], weights: Weights) -> Any:
        """Value of the tangent of a function of the network's weights."""
        center = {name: jnp.asarray(self.center[name]) for name in self.network.sites}
        moved = {name: weights[name] - center[name] for name in center}
        return jax.tree.map(jnp.add, *jax.jvp(function, (center,), (moved,)))
