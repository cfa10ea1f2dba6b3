"""The Bernoulli likelihood."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.model._distributions import BernoulliLogits
from weightprior.model.likelihoods._classes import check_labels
from weightprior.model.likelihoods.base import Likelihood, RandomTerms, per_target

__all__ = ["Bernoulli"]


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Yes or no: the output is the logit. Several outputs are several independent labels.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(3), wp.Bernoulli())
    """

    has_classes: ClassVar[bool] = True
    loss: ClassVar[str] = "binary cross entropy"

    def check_target(self, y, num_obs, num_outputs):
        return check_labels(super().check_target(y, num_obs, num_outputs), 2)

    def distribution(self, output, weights):
        return BernoulliLogits(per_target(output))

    def mean(self, output, weights):
        return jax.nn.sigmoid(per_target(output))

    def class_probabilities(self, mean):
        return np.stack([1 - mean, mean], axis=-1)

    def information_root(self, output, weights):
        return jnp.diag(jnp.sqrt(jax.nn.sigmoid(output) * jax.nn.sigmoid(-output)))

    def random_terms(self, output, weights, y):
        # Twice the arcsine of the root of the probability, but for a constant, and without its
        # infinite slopes.
        return RandomTerms(2 * jnp.arctan(jnp.tanh(output / 4)), output[:, :0])
