"""NumPyro's distributions, with densities that stay finite for extreme outputs of a network.

They also never mix dtypes.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jax.scipy.special import betainc, gammaincc, gammaln

__all__ = [
    "BernoulliLogits",
    "BinomialLogits",
    "LearnedStudentT",
    "NegativeBinomialLogMean",
    "NormalLogScale",
    "NormalOrFlat",
    "PoissonLogRate",
]

# Smallest argument of Stirling's series: above it, the terms below are exact in double precision.
_STIRLING_FROM = 8
# Above this log concentration, counts are Poisson: the remaining difference is below rounding.
_NEARLY_POISSON = 18.0


class NormalOrFlat(dist.Normal):
    """A Gaussian with a density of 1 wherever its scale is infinite."""

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
    """NumPyro's Bernoulli, with a density that does not mix dtypes."""

    def log_prob(self, value):
        value = jnp.asarray(value, self.logits.dtype)
        return -jax.nn.softplus((1 - 2 * value) * self.logits)


class NormalLogScale(dist.Normal):
    """NumPyro's Normal, with a density that is never inf - inf at large outputs."""

    pytree_data_fields = ("log_scale",)

    def __init__(self, loc: jax.Array, log_scale: jax.Array) -> None:
        self.log_scale = log_scale
        # Not validated: the scale may underflow to 0, but the density does not use it.
        super().__init__(loc, jnp.exp(log_scale), validate_args=False)

    def log_prob(self, value):
        standardised = (value - self.loc) * jnp.exp(-self.log_scale)
        return -(standardised**2 + math.log(2 * math.pi)) / 2 - self.log_scale


class PoissonLogRate(dist.Poisson):
    """NumPyro's Poisson, with a density that is never inf - inf at large outputs."""

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
    """NumPyro's Student-t, with a density that stays precise when it is near a normal."""

    def log_prob(self, value):
        half = self.df / 2
        standardised = (value - self.loc) / self.scale
        log_norm = _log_gamma_step(half) - 0.5 * jnp.log(math.pi * self.df) - jnp.log(self.scale)
        return log_norm - (half + 0.5) * jnp.log1p(standardised**2 / self.df)


# Above this, the series below, without the eleventh power of 1/x, is right to the last digit of
# double precision.
_LARGE = 25.0


def _log_gamma_step(x: jax.Array) -> jax.Array:
    """Compute the log of gamma(x + 1/2) / gamma(x); for large x by the series of the difference."""
    small, inverse = jnp.minimum(x, _LARGE), 1 / jnp.maximum(x, _LARGE)
    square = inverse**2
    series = 1 / 640 - square * (17 / 14336 - square * 31 / 18432)
    series = 1 / 8 - square * (1 / 192 - square * series)
    large = -0.5 * jnp.log(inverse) - inverse * series
    return jnp.where(x < _LARGE, gammaln(small + 0.5) - gammaln(small), large)


class NegativeBinomialLogMean(dist.Distribution):
    """Counts with the variance ``mu + mu^2 / c``, given the logs of the mean mu and of c.

    The density uses no difference of log gammas of c, which would lose all digits for large c, and
    no ratio of mu to c that overflows.
    """

    support = dist.constraints.nonnegative_integer
    pytree_data_fields = ("log_mean", "log_c")

    def __init__(self, log_mean: jax.Array, log_c: jax.Array) -> None:
        self.log_mean, self.log_c = log_mean, log_c
        super().__init__(jnp.shape(log_mean), validate_args=False)

    @property
    def mean(self):
        return jnp.exp(self.log_mean)

    @property
    def variance(self):
        return self.mean + jnp.exp(2 * self.log_mean - self.log_c)

    def sample(self, key, sample_shape=()):
        key_rate, key_count = jax.random.split(key)
        shape, dtype = (*sample_shape, *self.batch_shape), self.log_mean.dtype
        # Above this, a rate varies by less than its rounding.
        log_c = jnp.minimum(self.log_c, 36.0)
        log_scatter = jax.random.loggamma(key_rate, jnp.exp(log_c), shape, dtype) - log_c
        return PoissonLogRate(self.log_mean + log_scatter).sample(key_count)

    def log_prob(self, value):
        value = jnp.asarray(value, self.log_mean.dtype)
        log_mean, log_c = self.log_mean, self.log_c
        log_odds = log_mean - log_c
        # c log(1 + mu / c), from the smaller of both, which does not overflow first.
        is_tiny = log_odds < math.log(jnp.finfo(log_odds.dtype).eps)
        safe = jnp.where(is_tiny, jnp.zeros_like(log_odds), log_odds)
        share = jax.nn.softplus(safe) * jnp.exp(jnp.maximum(-safe, 0.0))
        share = jnp.where(is_tiny, jnp.ones_like(share), share)
        none = jnp.exp(jnp.minimum(log_mean, log_c)) * share
        # Each factor of the count is about the mean for a large c, and about c for a small one.
        log_shifted = math.log(_STIRLING_FROM)
        large = log_mean - jax.nn.softplus(log_odds) + jax.nn.softplus(log_shifted - log_c)
        small = jnp.logaddexp(log_c, log_shifted) - jax.nn.softplus(-log_odds)
        factor = jnp.where(log_c > 0, large, small)
        return value * factor + _log_rising(value, log_c) - gammaln(value + 1) - none

    def cdf(self, value):
        # In double precision: single precision loses all digits if the concentration is large.
        concentration = jnp.exp(jnp.minimum(self.log_c, _NEARLY_POISSON))
        count = jnp.maximum(jnp.floor(jnp.asarray(value, self.log_mean.dtype)), 0.0) + 1
        log_odds = self.log_mean - self.log_c
        upper = betainc(count, concentration, jax.nn.sigmoid(log_odds))
        lower = betainc(concentration, count, jax.nn.sigmoid(-log_odds))
        found = jnp.where(log_odds < 0, 1 - upper, lower)
        poisson = gammaincc(count, self.mean)
        found = jnp.where(self.log_c < _NEARLY_POISSON, found, poisson)
        return jnp.where(value < 0, jnp.zeros_like(found), found)


def _log_rising(count: jax.Array, log_c: jax.Array) -> jax.Array:
    """Compute the log of ``c (c + 1) ... (c + count - 1)``, less `count` times that of ``c + 8``.

    This is Stirling's series at ``c + 8`` and above, less its eight surplus factors.
    """
    c = jnp.exp(jnp.minimum(log_c, 60.0))  # above, it has no effect
    some = count > 0
    log_count = jnp.log(jnp.where(some, count, jnp.ones_like(count)))
    too_many = jnp.where(some, jax.nn.softplus(log_count - log_c), jnp.zeros_like(count))
    for k in range(1, _STIRLING_FROM):
        too_many = too_many + jnp.log1p(count / (c + k))
    shifted = c + _STIRLING_FROM
    ratio = count / shifted
    log_ratio = jnp.log1p(ratio)
    is_small = ratio < 1e-8
    safe = jnp.where(is_small, jnp.ones_like(ratio), ratio)
    per_ratio = jnp.where(is_small, 1 - ratio / 2, jnp.log1p(safe) / safe)
    change = _stirling_rest(shifted + count) - _stirling_rest(shifted)
    return count * (log_ratio + per_ratio - 1) - log_ratio / 2 + change - too_many


def _stirling_rest(z: jax.Array) -> jax.Array:
    """Compute log gamma of z, at least 8, less Stirling's formula."""
    inverse = 1 / z
    square = inverse * inverse
    series = 1 / 1260 - square * (1 / 1680 - square * (1 / 1188 - square * (691 / 360360)))
    return inverse * (1 / 12 - square * (1 / 360 - square * series))


class BinomialLogits(dist.Distribution):
    """Successes in a number of trials, given the logit of their probability."""

    pytree_data_fields = ("logits", "trials")

    def __init__(self, logits: jax.Array, trials: jax.Array) -> None:
        self.logits, self.trials = logits, trials
        super().__init__(jnp.shape(logits), validate_args=False)

    @property
    def support(self):
        return dist.constraints.integer_interval(0, self.trials)

    @property
    def mean(self):
        return self.trials * jax.nn.sigmoid(self.logits)

    @property
    def variance(self):
        return self.mean * jax.nn.sigmoid(-self.logits)

    def sample(self, key, sample_shape=()):
        shape = (*sample_shape, *self.batch_shape)
        # Draw the rarer outcome, since its probability keeps its digits.
        rarer = jax.nn.sigmoid(-jnp.abs(self.logits))
        drawn = jax.random.binomial(key, self.trials, rarer, shape, self.logits.dtype)
        drawn = jnp.where(self.logits > 0, self.trials - drawn, drawn)
        return drawn.astype(jnp.result_type(int))

    def log_prob(self, value):
        value = jnp.asarray(value, self.logits.dtype)
        return log_binomial(self.logits, value, self.trials - value)

    def cdf(self, value):
        value = jnp.floor(jnp.asarray(value, self.logits.dtype))
        inside = (value >= 0) & (value < self.trials)
        count = jnp.where(inside, value, jnp.zeros_like(value))
        found = betainc(self.trials - count, count + 1, jax.nn.sigmoid(-self.logits))
        return jnp.where(inside, found, (value >= self.trials).astype(found.dtype))


def log_binomial(logits: jax.Array, successes: jax.Array, failures: jax.Array) -> jax.Array:
    """Compute the log probability of given numbers of successes and failures."""
    ways = gammaln(successes + failures + 1) - gammaln(successes + 1) - gammaln(failures + 1)
    return ways - successes * jax.nn.softplus(-logits) - failures * jax.nn.softplus(logits)
