"""A model whose network is straightened out: what Laplace's approximation predicts with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from weightprior._weights import Weights
from weightprior.model import BNN
from weightprior.networks import MLP

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

    def outputs(self, weights: Weights, x) -> jax.Array:
        """What the tangent says."""
        center = {name: jnp.asarray(self.center[name]) for name in self.network.sites}
        moved = {name: weights[name] - center[name] for name in center}
        value, slope = jax.jvp(lambda w: self.network.apply(w, x), (center,), (moved,))
        return value + slope
