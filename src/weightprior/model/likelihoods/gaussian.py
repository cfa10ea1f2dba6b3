"""The Gaussian likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpyro.distributions as dist

from weightprior.model.likelihoods._scaled import Scaled, set_noise
from weightprior.model.likelihoods.terms import RandomTerms, per_target

__all__ = ["Gaussian"]


@dataclass(frozen=True)
class Gaussian(Scaled):
    """Gaussian noise around the outputs.

    Parameters
    ----------
    noise : float or sequence of float, optional
        Its standard deviation in units of y, if it is known: a number, or one per output. None: it
        is learned through the latent `log_noise`, one per output.

    Notes
    -----
    By default `log_noise` is normal around -1 with a scale of 1: the noise itself is between 0.052
    and 2.6 with a probability of 95 %, which suits targets with an sd of about 1. For another
    prior, pass ``latents={"log_noise": (centre, scale)}`` to `normal_prior`.

    Examples
    --------
    >>> import weightprior as wp
    >>> wp.Gaussian(noise=0.5)
    Gaussian(noise=0.5)
    """

    noise: float | Sequence[float] | None = None
    normal_outputs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        set_noise(self)

    @property
    def loss(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Squared error, unless each output has a noise of its own."""
        return "" if isinstance(self.noise, tuple) else "squared error"

    def distribution(self, output, weights):
        location = per_target(output)
        return dist.Normal(location, self.noise_of(location, weights))

    def random_terms(self, output, weights, y):
        # This acts like moving the targets by a multiple of the noise. The residuals of moved
        # targets give a learned noise half of the right spread. The other half comes from the
        # random number of times that its log counts.
        noise = self.noise_of(output, weights)
        counted = output[:, :0] if self.noise is not None else -jnp.log(noise)
        return RandomTerms((output - y.reshape(output.shape)) / noise, counted)

    def _information_about_location(self, weights):
        return 1.0

    @property
    def _information_about_scale(self):
        return 2.0
