"""The categorical likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from weightprior.model.likelihoods._classes import APART, EMPTY, Classes, count_or_labels
from weightprior.model.likelihoods.terms import RandomTerms, Recession

__all__ = ["Categorical"]


@dataclass(frozen=True, repr=False)
class Categorical(Classes):
    """One of several classes: the outputs are the logits, one per class (softmax).

    Parameters
    ----------
    classes : int or sequence of labels
        Labels of the targets, in the order of the outputs: text, numbers or booleans. Or the number
        of classes; targets are then 0, 1, ..., ``classes - 1``.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(4, num_outputs=3), wp.Categorical(["cat", "dog", "hen"]))
    >>> bnn.likelihood.num_classes
    3
    """

    classes: int | Sequence[Any]
    no_offset: ClassVar[str] = "added to all logits, it changes no probability"
    loss: ClassVar[str] = "cross entropy"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", count_or_labels(self.classes))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    def num_targets(self, num_outputs):
        return 1

    def target_names(self, columns, num_outputs):
        return self.labels

    def check_outputs(self, num_outputs: int) -> None:
        if num_outputs != self.num_classes:
            raise ValueError(
                f"network: expected num_outputs={self.num_classes}, a logit per class of {self!r}; "
                f"got {num_outputs}."
            )

    def observed(self, y, dtype):
        return jnp.asarray(y, jnp.int32)

    def distribution(self, output, weights):
        return dist.CategoricalLogits(output)

    def mean(self, output, weights):
        return jax.nn.softmax(output, axis=-1)

    def information_root(self, output, weights):
        probability = jax.nn.softmax(output)
        root = jnp.sqrt(probability)
        return jnp.diag(root) - probability[:, None] * root[None, :]

    def recession(self, y, num_outputs):
        identity = np.eye(num_outputs)
        return Recession(identity[y.astype(int)][:, None, :] - identity, APART, EMPTY)

    def random_terms(self, output, weights, y):
        return RandomTerms(2 * jnp.exp(jax.nn.log_softmax(output) / 2), output[:, :0])
