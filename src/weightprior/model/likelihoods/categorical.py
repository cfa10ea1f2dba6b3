"""The categorical likelihood."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from weightprior import _checks
from weightprior.model.likelihoods._classes import check_labels
from weightprior.model.likelihoods.base import Likelihood, RandomTerms

__all__ = ["Categorical"]


@dataclass(frozen=True)
class Categorical(Likelihood):
    """One of several classes: the outputs are the logits, one per class (softmax).

    Parameters
    ----------
    num_classes : int
        Classes; labels are 0, 1, ..., ``num_classes - 1``.

    Examples
    --------
    >>> import weightprior as wp
    >>> bnn = wp.BNN(wp.mlp(4, num_outputs=3), wp.Categorical(3))
    """

    num_classes: int
    static: ClassVar[tuple[str, ...]] = ("num_classes",)
    has_classes: ClassVar[bool] = True
    no_offset: ClassVar[str] = "added to all logits, it changes no probability"
    loss: ClassVar[str] = "cross entropy"

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_classes", _checks.integer("num_classes", self.num_classes, 2))

    def check_outputs(self, num_outputs: int) -> None:
        if num_outputs != self.num_classes:
            raise ValueError(
                f"network: expected num_outputs={self.num_classes}, a logit per class of "
                f"Categorical({self.num_classes}); got {num_outputs}."
            )

    def check_target(self, y, num_obs, num_outputs):
        return check_labels(super().check_target(y, num_obs, 1), self.num_classes)

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

    def random_terms(self, output, weights, y):
        return RandomTerms(2 * jnp.exp(jax.nn.log_softmax(output) / 2), output[:, :0])
