"""Coordinates that methods work in, and where their runs begin.

Weights are counted from the prior's centre in units of its scale, so that every weight is of order
one whatever the prior, and a start is a standard normal vector.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from weightprior import _checks
from weightprior._weights import Site
from weightprior.curvature import gauss_newton, prior_precision
from weightprior.likelihoods import Gaussian
from weightprior.model import BNN, Prior

__all__ = ["Part", "Standardised", "is_normal", "parts"]


class Part(NamedTuple):
    """What one fit is given beside the model and its data.

    Attributes
    ----------
    prior : NormalPrior or HierarchicalPrior
        A single prior.
    row_weights : array of shape (rows,)
        How often each row counts.
    """

    prior: Prior
    row_weights: np.ndarray


def parts(prior: Prior, row_weights: Any, num_obs: int) -> list[Part]:
    """Pair every part of a prior with its row weights, of which there is one set or one each."""
    singles = prior.parts()
    if row_weights is None:
        row_weights = np.ones(num_obs)
    num_sets = None if prior.labels is None else len(singles)
    counts = _checks.row_weights(row_weights, num_obs, num_sets)
    sets = np.broadcast_to(counts, (len(singles), num_obs))
    return [Part(single, weights) for single, weights in zip(singles, sets, strict=True)]


def is_normal(bnn: BNN) -> bool:
    """Whether a model's posterior is a normal distribution."""
    known = isinstance(bnn.likelihood, Gaussian) and "log_noise" not in bnn.sites
    return known and not bnn.network.hidden


class Standardised:
    """A model's density as a function of one flat, prior-standardised vector.

    Parameters
    ----------
    bnn, x, y
        The model and its data.
    part : Part
        A single prior, and how often each row counts.
    dtype : dtype
        Precision of the computation.
    names : sequence of str, optional
        Sites that a position holds; all by default.
    """

    def __init__(
        self,
        bnn: BNN,
        x: Any,
        y: Any,
        part: Part,
        dtype: Any,
        names: Sequence[str] | None = None,
    ) -> None:
        cast = jax.tree.map(lambda a: jnp.asarray(a, dtype), (bnn, x, y, *part))
        self.bnn, self.x, self.y, self.prior, self.row_weights = cast
        self.unit = self.bnn.unit(self.prior)
        self.names = tuple(bnn.sites if names is None else names)
        self.dtype = jnp.dtype(dtype)
        self.sites = bnn.sites  # what a draw holds
        self._hold({name: bnn.sites[name] for name in self.names})

    def _hold(self, sites: Mapping[str, Site]) -> None:
        """Lay out a position: one flat vector of these sites."""
        zeros = {name: jnp.zeros(site.shape, self.dtype) for name, site in sites.items()}
        vector, self.unravel = ravel_pytree(zeros)
        self.size = vector.size

    def weights(self, position: jax.Array) -> dict[str, jax.Array]:
        """Weights that a position holds."""
        z = self.unravel(position)
        return {name: self.prior.loc[name] + self.unit[name] * z[name] for name in z}

    def position(self, weights: Any) -> jax.Array:
        """Position of weights."""
        z = {n: (weights[n] - self.prior.loc[n]) / self.unit[n] for n in self.names}
        return self._vector(z)

    def complete(self, key: jax.Array, position: jax.Array) -> dict[str, jax.Array]:
        """Every site's weights at a position, those that it does not hold drawn at random."""
        return self.weights(position)

    def log_density(self, position: jax.Array) -> jax.Array:
        """The model's log joint density of the weights at a position."""
        weights = self.weights(position)
        return self.bnn.log_joint(weights, self.x, self.y, self.prior, self.row_weights)

    def precision(self, position: jax.Array) -> jax.Array:
        """Gauss-Newton matrix of minus the log density at a position."""
        data = gauss_newton(self.bnn, self.weights, position, self.x, self.row_weights)
        return data + jnp.diag(prior_precision(self.bnn, self.prior, self.dtype))

    def draw(self, key: jax.Array) -> jax.Array:
        """A position drawn from the prior (where it is flat, from its unit)."""
        return jax.random.normal(key, (self.size,), self.dtype)

    def mask(self, site: str) -> jax.Array:
        """Where in a position the numbers of one site stand; nowhere, where the model lacks it."""
        zeros = self.unravel(jnp.zeros(self.size, self.dtype))
        return self._vector({n: jnp.full_like(z, n == site, bool) for n, z in zeros.items()})

    def log_volume(self, position: jax.Array) -> jax.Array:
        """Log of the volume that weights fill while a position fills one of 1."""
        return self.log_units().sum()

    def log_units(self) -> jax.Array:
        """Log of the unit of every number of a position: those of the volume of a step."""
        zeros = self.unravel(jnp.zeros(self.size, self.dtype))
        return self._vector({n: jnp.log(self.unit[n]) + z for n, z in zeros.items()})

    def _vector(self, z: dict[str, jax.Array]) -> jax.Array:
        return ravel_pytree(z)[0]
