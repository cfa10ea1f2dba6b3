"""Coordinates that methods work in, and where their runs begin.

Weights are counted from the prior's centre in units of its scale, so that every weight is of order
one whatever the prior, and a start is a standard normal vector.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from weightprior.model import BNN

__all__ = ["Standardised"]


class Standardised:
    """A model's density as a function of one flat, prior-standardised vector.

    Parameters
    ----------
    bnn, x, y, prior
        The model, its data and a single prior.
    dtype : dtype
        Precision of the computation.
    """

    def __init__(self, bnn: BNN, x: Any, y: Any, prior: Any, dtype: Any) -> None:
        cast = jax.tree.map(lambda a: jnp.asarray(a, dtype), (bnn, x, y, prior))
        self.bnn, self.x, self.y, self.prior = cast
        self.unit = self.bnn.unit(self.prior)
        zeros = {name: jnp.zeros(site.shape, dtype) for name, site in bnn.sites.items()}
        vector, self.unravel = ravel_pytree(zeros)
        self.size, self.dtype = vector.size, vector.dtype

    def weights(self, position: jax.Array) -> dict[str, jax.Array]:
        """Weights at a position."""
        z = self.unravel(position)
        return {name: self.prior.loc[name] + self.unit[name] * z[name] for name in z}

    def position(self, weights: Any) -> jax.Array:
        """Position of weights."""
        z = {name: (weights[name] - self.prior.loc[name]) / self.unit[name] for name in self.unit}
        return ravel_pytree(z)[0]

    def log_density(self, position: jax.Array) -> jax.Array:
        """The model's log joint density of the weights at a position."""
        return self.bnn.log_joint(self.weights(position), self.x, self.y, self.prior)

    def draw(self, key: jax.Array) -> jax.Array:
        """A position drawn from the prior (where it is flat, from its unit)."""
        return jax.random.normal(key, (self.size,), self.dtype)

    def mask(self, site: str) -> jax.Array:
        """Where in a position the numbers of one site stand; nowhere, where the model lacks it."""
        marks = {name: jnp.full_like(unit, name == site, bool) for name, unit in self.unit.items()}
        return ravel_pytree(marks)[0]
