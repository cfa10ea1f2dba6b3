"""The Bernoulli likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.model._distributions import BernoulliLogits
from weightprior.model.likelihoods._classes import APART, EMPTY, Classes, labels_of
from weightprior.model.likelihoods.terms import RandomTerms, Recession, per_target

__all__ = ["Bernoulli"]


@dataclass(frozen=True, repr=False)
class Bernoulli(Classes):
    """Yes or no: the output is the logit. Several outputs are several independent labels.

    Parameters
    ----------
    classes : sequence of two labels, optional
        Labels of the targets; the output is the logit of the second. None: targets are 0 and 1, or
        booleans.

    Examples
    --------
    >>> import weightprior as wp
    >>> wp.Bernoulli(["no", "yes"])
    Bernoulli(['no', 'yes'])
    """

    classes: Sequence[Any] | None = None
    loss: ClassVar[str] = "binary cross entropy"

    def __post_init__(self) -> None:
        if self.classes is None:
            return
        labels = labels_of(self.classes)
        if len(labels) != 2:
            raise ValueError(
                f"classes: expected two labels, the second for 1; got {len(labels)}. "
                f"For more, use Categorical, with num_outputs={len(labels)} of the network."
            )
        object.__setattr__(self, "classes", labels)

    @property
    def num_classes(self) -> int:
        """Two."""
        return 2

    def distribution(self, output, weights):
        return BernoulliLogits(per_target(output))

    def mean(self, output, weights):
        return jax.nn.sigmoid(per_target(output))

    def class_probabilities(self, mean):
        return np.stack([1 - mean, mean], axis=-1)

    def information_root(self, output, weights):
        return jnp.diag(jnp.sqrt(jax.nn.sigmoid(output) * jax.nn.sigmoid(-output)))

    def recession(self, y, num_outputs):
        yes = y.reshape(len(y), num_outputs) == 1
        return Recession.of_each(yes, ~yes, APART, EMPTY)

    def random_terms(self, output, weights, y):
        # Twice the arcsine of the root of the probability, up to a constant, and without its
        # infinite slopes.
        return RandomTerms(2 * jnp.arctan(jnp.tanh(output / 4)), output[:, :0])
