"""Coordinates under a prior that is learned: the latents above the weights, and the weights.

A weight's coordinate is not where it stands but its standardised part, from which the latents make
the weight. So in its coordinates every number is of order one, however narrow the latents make the
weights, and a step that suits some of their scales suits all.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from weightprior.inference._standardised import Part, Standardised
from weightprior.model import BNN

__all__ = ["Hierarchical"]


class Hierarchical(Standardised):
    """A model's density under a `HierarchicalPrior`.

    Parameters
    ----------
    bnn, x, y, part, dtype
        As for `Standardised`; the prior of `part` is one that is learned.
    """

    def __init__(self, bnn: BNN, x: Any, y: Any, part: Part, dtype: Any) -> None:
        learned = jax.tree.map(lambda a: jnp.asarray(a, dtype), part.prior)
        super().__init__(bnn, x, y, part._replace(prior=learned.base), dtype)
        self.learned = learned
        self.sites = {**learned.sites, **bnn.sites}
        self._hold(self.sites)

    def weights(self, position: jax.Array) -> dict[str, jax.Array]:
        """Latents and weights that a position holds."""
        z = self.unravel(position)
        above = self.learned.latents(self.dtype).items()
        latents = {
            name: latent.loc + latent.scale * z[name] if _is_normal(latent) else jnp.exp(z[name])
            for name, latent in above
        }
        loc, unit = self._lengths(latents)
        return latents | {name: loc[name] + unit[name] * z[name] for name in self.bnn.sites}

    def position(self, weights: Any) -> jax.Array:
        """Position of weights, and of latents above them; of those that are missing at 0."""
        z = self.unravel(jnp.zeros(self.size, self.dtype))
        for name, latent in self.learned.latents(self.dtype).items():
            if name in weights:
                value = weights[name]
                normal = _is_normal(latent)
                z[name] = (value - latent.loc) / latent.scale if normal else jnp.log(value)
        loc, unit = self._lengths(self.weights(self._vector(z)))
        z |= {name: (weights[name] - loc[name]) / unit[name] for name in self.bnn.sites}
        return self._vector(z)

    def log_density(self, position: jax.Array) -> jax.Array:
        """Log density of a position, and of the targets."""
        z = self.unravel(position)
        log_prior = jnp.zeros((), self.dtype)
        for name, latent in self.learned.latents(self.dtype).items():
            if _is_normal(latent):
                log_prior += _standard_normal(z[name])
            else:
                log_prior += latent.log_prob(jnp.exp(z[name])) + z[name].sum()
        grouped = {name for sites in self.learned.groups.values() for name in sites}
        shapes = self.learned.of_weights()
        for name in self.bnn.sites:
            if name in shapes:
                log_prior += shapes[name].log_prob(z[name]).sum()
            elif name in grouped:
                log_prior += _standard_normal(z[name])
            else:
                flat = jnp.isinf(self.prior.scale[name])
                log_prior += _standard_normal(jnp.where(flat, 0.0, z[name]))
        weights = self.weights(position)
        return log_prior + self.bnn.log_likelihood(weights, self.x, self.y, self.row_weights)

    def log_volume(self, position: jax.Array) -> jax.Array:
        """Log of the volume that latents and weights fill while a position fills one of 1."""
        z = self.unravel(position)
        total = jnp.zeros((), self.dtype)
        for name, latent in self.learned.latents(self.dtype).items():
            total += jnp.log(latent.scale) if _is_normal(latent) else z[name].sum()
        _, unit = self._lengths(self.weights(position))
        return total + sum(
            jnp.broadcast_to(jnp.log(unit[n]), z[n].shape).sum() for n in self.bnn.sites
        )

    def _lengths(self, latents: Any) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Where weights are counted from, and in what units."""
        given = self.learned.given(latents)
        return {**self.prior.loc, **given.loc}, {**self.unit, **given.scale}


def _is_normal(latent: dist.Distribution) -> bool:
    return not latent.event_shape and isinstance(latent, dist.Normal)


def _standard_normal(z: jax.Array) -> jax.Array:
    return -0.5 * jnp.square(z).sum()
