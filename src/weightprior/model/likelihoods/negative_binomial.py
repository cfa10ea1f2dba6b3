"""The negative binomial likelihood."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from weightprior.model._distributions import NegativeBinomialLogMean
from weightprior.model.likelihoods._counts import check_counts, recession_of_counts
from weightprior.model.likelihoods._fields import set_positive
from weightprior.model.likelihoods.base import Likelihood
from weightprior.model.likelihoods.terms import latent_of_outputs, per_target
from weightprior.model.sites import Weights

__all__ = ["NegativeBinomial"]

# Centre and scale of the default prior of the concentration's logarithm.
_LOG_CONCENTRATION_PRIOR = (1.0, 1.5)


@dataclass(frozen=True)
class NegativeBinomial(Likelihood):
    """Counts with a larger variance than Poisson's: the output is the log of the mean.

    The variance is ``mean + mean**2 / concentration``: near that of `Poisson` for a large
    concentration. Other libraries call one over it the dispersion, or alpha.

    Parameters
    ----------
    concentration : float, optional
        The concentration, if it is known. None: it is learned through the latent
        `log_concentration`, one per output.

    Notes
    -----
    By default `log_concentration` is normal around 1 with a scale of 1.5: the concentration itself
    is between 0.14 and 51 with a probability of 95 %. For another prior, pass
    ``latents={"log_concentration": (centre, scale)}`` to `normal_prior`.

    Examples
    --------
    >>> import weightprior as wp
    >>> wp.NegativeBinomial(concentration=2.0)
    NegativeBinomial(concentration=2.0)
    """

    concentration: float | None = None
    step: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        set_positive(self, "concentration", optional=True)

    def latents(self, num_outputs):
        if self.concentration is not None:
            return {}
        latent = latent_of_outputs(
            num_outputs, _LOG_CONCENTRATION_PRIOR, "concentration", limit="a Poisson law"
        )
        return {"log_concentration": latent}

    def check_target(self, y, num_obs, num_outputs):
        return check_counts(super().check_target(y, num_obs, num_outputs))

    def distribution(self, output, weights):
        log_mean = per_target(output)
        return NegativeBinomialLogMean(log_mean, self._log_concentration(log_mean, weights))

    def mean(self, output, weights):
        return jnp.exp(per_target(output))

    def information_root(self, output, weights):
        # For a learned concentration there is no closed form: the curvature is used for all.
        if self.concentration is None:
            return None
        log_c = self._log_concentration(output, weights)
        return jnp.diag(jnp.exp((output - jax.nn.softplus(output - log_c)) / 2))

    def recession(self, y, num_outputs):
        return recession_of_counts(y.reshape(len(y), num_outputs))

    def _log_concentration(self, log_mean: jax.Array, weights: Weights) -> jax.Array:
        """Return the log of every target's concentration, of the shape of the log means."""
        if self.concentration is None:
            log_c = weights["log_concentration"]
        else:
            log_c = jnp.log(jnp.asarray(self.concentration, log_mean.dtype))
        behind = log_c[None] if 0 < log_c.ndim < log_mean.ndim else log_c
        return jnp.broadcast_to(behind, log_mean.shape)
