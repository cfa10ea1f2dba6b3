"""The Gaussian likelihood whose noise depends on x."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from weightprior.model._distributions import NormalLogScale
from weightprior.model.likelihoods.base import Likelihood, RandomTerms

__all__ = ["HeteroscedasticGaussian"]


@dataclass(frozen=True)
class HeteroscedasticGaussian(Likelihood):
    """Gaussian noise whose size depends on x: two outputs, the mean and the log of the sd.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(1, num_outputs=2), wp.HeteroscedasticGaussian())
    """

    no_offset: ClassVar[str] = "it would be added to the log standard deviation as well"
    loss: ClassVar[str] = "Gaussian negative log likelihood"

    def check_outputs(self, num_outputs: int) -> None:
        if num_outputs != 2:
            raise ValueError(
                "network: expected num_outputs=2 for HeteroscedasticGaussian (the mean and the log "
                f"standard deviation); got {num_outputs}."
            )

    def check_target(self, y, num_obs, num_outputs):
        return super().check_target(y, num_obs, 1)

    def distribution(self, output, weights):
        return NormalLogScale(output[:, 0], output[:, 1])

    def mean(self, output, weights):
        return output[:, 0]

    def information_root(self, output, weights):
        return jnp.diag(jnp.stack([jnp.exp(-output[1]), jnp.full_like(output[1], 2**0.5)]))

    def random_terms(self, output, weights, y):
        location, log_noise = jnp.split(output, 2, axis=1)
        return RandomTerms((location - y[:, None]) * jnp.exp(-log_noise), -log_noise)
