"""Location families: targets around the outputs, with a scale that is known or learned."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.model.likelihoods.base import Likelihood
from weightprior.model.likelihoods.latent import Latent
from weightprior.model.sites import Weights

__all__ = ["Scaled"]

# Centre and scale of the default prior of the noise's logarithm, in log units of y.
_LOG_NOISE_PRIOR = (-1.0, 1.0)


class Scaled(Likelihood):
    """A location family whose scale `noise` is known, or learned through the latent `log_noise`."""

    noise: float | None

    def latents(self, num_outputs: int) -> dict[str, Latent]:
        """The logarithm of the noise, one per output, where it is learned."""
        if self.noise is not None:
            return {}
        shape, dims = ((num_outputs,), ("output",)) if num_outputs > 1 else ((), ())
        information = self._information[1]
        return {"log_noise": Latent(shape, dims, _LOG_NOISE_PRIOR, "noise", jnp.exp, information)}

    def noise_of(self, location: jax.Array, weights: Weights) -> jax.Array:
        """Scale of every target around its location, of that shape."""
        noise = jnp.exp(weights["log_noise"]) if self.noise is None else self.noise
        noise = jnp.asarray(noise, location.dtype)
        return jnp.broadcast_to(noise if noise.ndim == 0 else noise[None, :], location.shape)

    def noise_centers(self, noise: float) -> dict[str, float]:
        """Its logarithm, where it is learned."""
        return {} if self.noise is not None else {"log_noise": float(np.log(noise))}

    def information_root(self, output, weights):
        """Root of the information: a constant over the squared scale, about a location."""
        scale = self.noise_of(output[None, :], weights)[0]
        return jnp.diag(jnp.sqrt(jnp.asarray(self._information[0], output.dtype)) / scale)

    @property
    def _information(self) -> tuple[Any, Any]:
        """Expected information about the location (for a scale of 1) and about the log scale."""
        raise NotImplementedError
