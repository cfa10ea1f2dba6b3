"""NumPyro's distributions with densities that stay finite where a network's outputs do not.

They are also strict: nothing in them mixes dtypes.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jax.scipy.special import gammaln

__all__ = [
    "BernoulliLogits",
    "LearnedStudentT",
    "NormalLogScale",
    "NormalOrFlat",
    "PoissonLogRate",
]


class NormalOrFlat(dist.Normal):
    """A Gaussian whose density is 1 wherever its scale is infinite."""

    def log_prob(self, value):
        flat = jnp.isinf(self.scale)
        # The inner `where` keeps infinities out of the gradient of the branch not taken.
        proper = dist.Normal(self.loc, jnp.where(flat, jnp.ones_like(self.scale), self.scale))
        log_density = proper.log_prob(value)
        return jnp.where(flat, jnp.zeros_like(log_density), log_density)

    def sample(self, key, sample_shape=()):
        if not isinstance(self.scale, Tracer) and np.any(np.isinf(self.scale)):
            raise ValueError(
                "prior: expected finite scales to draw from; got inf. A flat prior is improper and "
                "has no draws: give every site a finite scale."
            )
        return super().sample(key, sample_shape)


class BernoulliLogits(dist.BernoulliLogits):
    """NumPyro's Bernoulli, with a density that needs no mixing of dtypes."""

    def log_prob(self, value):
        value = jnp.asarray(value, self.logits.dtype)
        return -jax.nn.softplus((1 - 2 * value) * self.logits)


class NormalLogScale(dist.Normal):
    """NumPyro's Normal, with a density that no large output turns into inf - inf."""

    pytree_data_fields = ("log_scale",)

    def __init__(self, loc: jax.Array, log_scale: jax.Array) -> None:
        self.log_scale = log_scale
        # Not validated: the scale may underflow to 0, the density does without it.
        super().__init__(loc, jnp.exp(log_scale), validate_args=False)

    def log_prob(self, value):
        standardised = (value - self.loc) * jnp.exp(-self.log_scale)
        return -(standardised**2 + math.log(2 * math.pi)) / 2 - self.log_scale


class PoissonLogRate(dist.Poisson):
    """NumPyro's Poisson, with a density that no large output turns into inf - inf."""

    pytree_data_fields = ("log_rate",)

    def __init__(self, log_rate: jax.Array, *, validate_args: bool | None = None) -> None:
        self.log_rate = log_rate
        super().__init__(jnp.exp(log_rate), validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        # jax.random.poisson draws 0 for a rate far beyond the largest int.
        most = jnp.asarray(jnp.iinfo(jnp.result_type(int)).max, self.rate.dtype)
        rate = jnp.minimum(self.rate, most)
        return jax.random.poisson(key, rate, (*sample_shape, *self.batch_shape))

    def log_prob(self, value):
        value = jnp.asarray(value, self.log_rate.dtype)
        return value * self.log_rate - jnp.exp(self.log_rate) - gammaln(value + 1)


class LearnedStudentT(dist.StudentT):
    """NumPyro's Student-t, with a density that rounding does not blur where it is near a normal."""

    def log_prob(self, value):
        half = self.df / 2
        standardised = (value - self.loc) / self.scale
        log_norm = _log_gamma_step(half) - 0.5 * jnp.log(math.pi * self.df) - jnp.log(self.scale)
        return log_norm - (half + 0.5) * jnp.log1p(standardised**2 / self.df)


# From here on the series below, which leaves out the eleventh power of 1/x, is right to the last
# digit of double precision.
_LARGE = 25.0


def _log_gamma_step(x: jax.Array) -> jax.Array:
    """Log of gamma(x + 1/2) / gamma(x), by the series of their difference where x is large."""
    small, inverse = jnp.minimum(x, _LARGE), 1 / jnp.maximum(x, _LARGE)
    square = inverse**2
    series = 1 / 640 - square * (17 / 14336 - square * 31 / 18432)
    series = 1 / 8 - square * (1 / 192 - square * series)
    large = -0.5 * jnp.log(inverse) - inverse * series
    return jnp.where(x < _LARGE, gammaln(small + 0.5) - gammaln(small), large)
