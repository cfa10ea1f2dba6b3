"""A model's density under a prior and data moved at random: what a member of an ensemble maximises.

The prior moves to a draw of itself. To the log likelihood of every row random multiples are added
of functions of the network's outputs, so that the gradient of all that is added has the covariance
of the posterior's own precision: then optima scatter as the posterior does, to first order.
"""

from functools import singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightprior._weights import Weights
from weightprior.inference._standardised import Part, Standardised
from weightprior.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    Likelihood,
    Poisson,
)
from weightprior.model import BNN
from weightprior.priors import NormalPrior

__all__ = ["Member", "Randomised", "terms_of"]


class Member(NamedTuple):
    """What a member's density is moved from, and the key that decides how.

    Attributes
    ----------
    part : Part
        A single `NormalPrior`, and how often each row counts.
    key : JAX key
        Its draw of the prior is the anchor.
    """

    part: Part
    key: jax.Array


class Terms(NamedTuple):
    """What is added to the log likelihood of each row, in random multiples of mean 0.

    Attributes
    ----------
    signed : array of shape (rows, any)
        By normal numbers, whose variance is how often the row counts.
    counted : array of shape (rows, any)
        By gamma numbers less their mean, of the same variance: it still counts, but a random
        number of times, never less than 0. Whole numbers are sums of unit exponentials.
    """

    signed: jax.Array
    counted: jax.Array


class Randomised(Standardised):
    """A member's log density as a function of a position.

    Positions are those of the prior that was given: only its density has moved. All that is random
    is drawn in double precision, whatever `dtype` is, so that rough and exact runs share it.

    Parameters
    ----------
    bnn, x, y, dtype
        As of `Standardised`.
    member : Member
        What the density is, and how it is moved.
    """

    def __init__(self, bnn: BNN, x: Any, y: Any, member: Member, dtype: Any) -> None:
        part, key = member
        super().__init__(bnn, x, y, part, dtype)
        drawn = Standardised(bnn, x, y, part, jnp.float64).draw(key).astype(dtype)
        # A flat prior stays what it is, wherever it is centred.
        anchor = {
            name: jnp.where(jnp.isinf(self.prior.scale[name]), self.prior.loc[name], drawn_there)
            for name, drawn_there in self.weights(drawn).items()
        }
        self.anchored = NormalPrior(anchor, self.prior.scale)
        key_signed, key_counted = jax.random.split(jax.random.fold_in(key, 1))
        shapes = jax.eval_shape(self._terms, anchor)
        counts = jnp.asarray(part.row_weights, jnp.float64)[:, None]
        signed = jnp.sqrt(counts) * jax.random.normal(key_signed, shapes.signed.shape, jnp.float64)
        counted = _gamma(key_counted, jnp.broadcast_to(counts, shapes.counted.shape)) - counts
        self.multiples = Terms(signed.astype(dtype), counted.astype(dtype))

    def log_density(self, position: jax.Array) -> jax.Array:
        """The log joint density of the weights at a position, moved."""
        weights = self.weights(position)
        joint = self.bnn.log_joint(weights, self.x, self.y, self.anchored, self.row_weights)
        # A row that does not count must not spoil the sum by overflowing.
        there = self.row_weights[:, None] > 0
        return joint + sum(
            jnp.where(there, multiples * terms, jnp.zeros_like(terms)).sum()
            for multiples, terms in zip(self.multiples, self._terms(weights), strict=True)
        )

    def _terms(self, weights: Weights) -> Terms:
        return terms_of(self.bnn.likelihood, self.bnn, weights, self.x, self.y)


def _gamma(key: jax.Array, shape: jax.Array) -> jax.Array:
    """Gamma numbers of unit scale; 0 for the shape 0."""
    if not shape.size:
        return shape
    return jnp.where(shape > 0, jax.random.gamma(key, jnp.where(shape > 0, shape, 1.0)), 0.0)


@singledispatch
def terms_of(likelihood: Likelihood, bnn: BNN, weights: Weights, x: Any, y: Any) -> Terms:
    """What is added to each row, where nothing better is known: the row's own log likelihood.

    Its gradients have the right covariance if the model is right (the weighted likelihood
    bootstrap). Those below have it whatever the data are: their Jacobian in the outputs is the root
    of the information, R', so that a model with those outputs for weights is moved just enough.
    """
    terms = bnn.pointwise_log_likelihood(weights, x, y)[:, None]
    return Terms(terms[:, :0], terms)


@terms_of.register
def _(likelihood: Gaussian, bnn: BNN, weights: Weights, x: Any, y: Any) -> Terms:
    # As if the targets were moved by a multiple of the noise. To what the residuals of moved
    # targets say of the noise that adds half of the scatter that is due; the other half comes from
    # how often its own log counts.
    outputs = bnn.outputs(weights, x)
    noise = likelihood.noise_of(outputs, weights)
    counted = outputs[:, :0] if likelihood.noise is not None else -jnp.log(noise)
    return Terms((outputs - y.reshape(outputs.shape)) / noise, counted)


@terms_of.register
def _(likelihood: HeteroscedasticGaussian, bnn: BNN, weights: Weights, x: Any, y: Any) -> Terms:
    location, log_noise = jnp.split(bnn.outputs(weights, x), 2, axis=1)
    return Terms((location - y[:, None]) * jnp.exp(-log_noise), -log_noise)


@terms_of.register
def _(likelihood: Bernoulli, bnn: BNN, weights: Weights, x: Any, y: Any) -> Terms:
    # Twice the arcsine of the root of the probability, but for a constant, and without its
    # infinite slopes.
    outputs = bnn.outputs(weights, x)
    return Terms(2 * jnp.arctan(jnp.tanh(outputs / 4)), outputs[:, :0])


@terms_of.register
def _(likelihood: Categorical, bnn: BNN, weights: Weights, x: Any, y: Any) -> Terms:
    outputs = bnn.outputs(weights, x)
    return Terms(2 * jnp.exp(jax.nn.log_softmax(outputs) / 2), outputs[:, :0])


@terms_of.register
def _(likelihood: Poisson, bnn: BNN, weights: Weights, x: Any, y: Any) -> Terms:
    outputs = bnn.outputs(weights, x)
    return Terms(2 * jnp.exp(outputs / 2), outputs[:, :0])
