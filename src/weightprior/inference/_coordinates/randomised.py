"""A model's density under randomly perturbed prior and data: the objective of an ensemble member.

The prior is centred at a draw from itself. Random multiples of functions of the network's outputs
are added to the log likelihood of every row. The gradient of the sum of these additions has the
posterior's precision as its covariance. Optima then have the spread of the posterior, to first
order.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightprior.fits.task import Task
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.model import density
from weightprior.model.bnn import BNN
from weightprior.model.likelihoods.terms import RandomTerms
from weightprior.model.priors.normal import NormalPrior
from weightprior.model.sites import Weights

__all__ = ["Member", "Randomised"]


class Member(NamedTuple):
    """Task of one member, and the key of the perturbation of its density.

    Attributes
    ----------
    task : Task
        A single `NormalPrior`, and how often each row counts.
    key : JAX key
        Random key; its draw from the prior is the anchor.
    """

    task: Task
    key: jax.Array


class Randomised(Standardised):
    """A member's log density as a function of a position.

    Positions are those of the original prior: only its density has moved. All random numbers are
    drawn in double precision, whatever `dtype` is, so that rough and exact runs share them.

    Parameters
    ----------
    bnn, x, y, dtype
        As for `Standardised`.
    member : Member
        The task, and the key of the perturbation.
    """

    def __init__(self, bnn: BNN, x: Any, y: Any, member: Member, dtype: Any) -> None:
        task, key = member
        super().__init__(bnn, x, y, task, dtype)
        drawn = Standardised(bnn, x, y, task, jnp.float64).draw(key).astype(dtype)
        # A flat prior has no centre, so it stays unchanged.
        anchor = {
            name: jnp.where(jnp.isinf(self.prior.scale[name]), self.prior.loc[name], drawn_there)
            for name, drawn_there in self.weights(drawn).items()
        }
        self.anchored = NormalPrior(anchor, self.prior.scale)
        key_signed, key_counted = jax.random.split(jax.random.fold_in(key, 1))
        shapes = jax.eval_shape(self._terms, anchor)
        counts = jnp.asarray(task.row_weights, jnp.float64)[:, None]
        signed = jnp.sqrt(counts) * jax.random.normal(key_signed, shapes.signed.shape, jnp.float64)
        counted = _gamma(key_counted, jnp.broadcast_to(counts, shapes.counted.shape)) - counts
        self.multiples = RandomTerms(signed.astype(dtype), counted.astype(dtype))

    def log_density(self, position: jax.Array, less: jax.Array | None = None) -> jax.Array:
        """Compute the perturbed log joint density of the weights at a position, less a number."""
        weights = self.weights(position)
        joint = density.log_joint(
            self.bnn, weights, self.x, self.y, self.anchored, self.row_weights
        )
        joint = joint if less is None else joint - less
        # A row that does not count must not spoil the sum by overflowing.
        there = self.row_weights[:, None] > 0
        return joint + sum(
            jnp.where(there, multiples * terms, jnp.zeros_like(terms)).sum()
            for multiples, terms in zip(self.multiples, self._terms(weights), strict=True)
        )

    def _terms(self, weights: Weights) -> RandomTerms:
        outputs = density.outputs(self.bnn, weights, self.x)
        return self.bnn.likelihood.random_terms(outputs, weights, self.y)


def _gamma(key: jax.Array, shape: jax.Array) -> jax.Array:
    """Draw Gamma numbers of unit scale; 0 for the shape 0."""
    if not shape.size:
        return shape
    return jnp.where(shape > 0, jax.random.gamma(key, jnp.where(shape > 0, shape, 1.0)), 0.0)
