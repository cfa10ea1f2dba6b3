"""The Poisson likelihood."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from weightprior.model._distributions import PoissonLogRate
from weightprior.model.likelihoods._counts import check_counts, recession_of_counts
from weightprior.model.likelihoods.base import Likelihood
from weightprior.model.likelihoods.terms import RandomTerms, per_target

__all__ = ["Poisson"]


@dataclass(frozen=True)
class Poisson(Likelihood):
    """Counts: the output is the log of the rate.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(3), wp.Poisson())
    """

    step: ClassVar[float] = 1.0
    loss: ClassVar[str] = "Poisson"

    def check_target(self, y, num_obs, num_outputs):
        return check_counts(super().check_target(y, num_obs, num_outputs))

    def distribution(self, output, weights):
        return PoissonLogRate(per_target(output))

    def mean(self, output, weights):
        return jnp.exp(per_target(output))

    def information_root(self, output, weights):
        return jnp.diag(jnp.exp(output / 2))

    def recession(self, y, num_outputs):
        return recession_of_counts(y.reshape(len(y), num_outputs))

    def random_terms(self, output, weights, y):
        return RandomTerms(2 * jnp.exp(output / 2), output[:, :0])
