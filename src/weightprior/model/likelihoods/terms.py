"""Classes with which a likelihood describes itself: its latents, and the terms of an ensemble."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Latent", "RandomTerms", "Recession", "Restated", "latent_of_outputs", "per_target"]


@dataclass(frozen=True)
class Latent:
    """A real-valued unknown of a likelihood, with a Gaussian prior.

    Attributes
    ----------
    shape : tuple of int
        Shape of the array.
    dims : tuple of str
        Names of its axes.
    prior : (float, float)
        Centre and scale of its default prior.
    derived : str
        Name of its value on the natural scale in a fit; none by default.
    natural : callable
        Function from the latent to its natural scale; the exponential by default.
    information : float, optional
        Expected information of one target about each number of it, if that is the same for all rows
        and none is shared with the outputs. None: computed by differentiation, together with that
        about the outputs.
    limit : str
        Limit of the targets' distribution as it grows without end, such as "a normal law"; none by
        default. Since the likelihood stays above zero there, a posterior under a flat prior is
        improper.
    """

    shape: tuple[int, ...] = ()
    dims: tuple[str, ...] = ()
    prior: tuple[float, float] = (0.0, 1.0)
    derived: str = ""
    natural: Callable[[jax.Array], jax.Array] = jnp.exp
    information: Any = None
    limit: str = ""


def latent_of_outputs(
    num_outputs: int,
    prior: tuple[float, float],
    derived: str,
    information: Any = None,
    limit: str = "",
) -> Latent:
    """Describe a latent: the log of a positive number, one for each output."""
    shape, dims = ((num_outputs,), ("output",)) if num_outputs > 1 else ((), ())
    return Latent(shape, dims, prior, derived, jnp.exp, information, limit)


class RandomTerms(NamedTuple):
    """Terms that an anchored ensemble adds to each row's log likelihood, in random multiples.

    Attributes
    ----------
    signed : array of shape (rows, any)
        Multiplied by normal numbers; their variance is the number of times that the row counts.
    counted : array of shape (rows, any)
        Multiplied by gamma numbers of the same variance, less their mean. A term then counts a
        random number of times, never less than 0. For whole row weights these are sums of unit
        exponentials.
    """

    signed: jax.Array
    counted: jax.Array


class Recession(NamedTuple):
    """Directions of a row's outputs along which its log density never falls, from any point.

    Attributes
    ----------
    constraints : array of shape (rows, any, outputs)
        A direction is one if its products with all constraints of a row are at least 0. If one
        product is positive, the density rises without end; if all are 0, it stays constant.
    apart : str
        Effect of the inputs on the data, if these leave a rising direction.
    empty : str
        The same if constants alone leave a rising direction.
    """

    constraints: np.ndarray
    apart: str = ""
    empty: str = ""

    @classmethod
    def of_each(cls, up: Any, down: Any, apart: str = "", empty: str = "") -> "Recession":
        """Make it from the outputs that may rise, and from those that may fall: (rows, outputs)."""
        identity = np.eye(np.shape(up)[1])
        held = np.concatenate(
            [~np.asarray(down)[..., None] * identity, -(~np.asarray(up)[..., None] * identity)],
            axis=1,
        )
        return cls(held, apart, empty)


class Restated(NamedTuple):
    """The distribution of shifted and multiplied targets, as a likelihood of the same family.

    Attributes
    ----------
    likelihood : Likelihood
        Likelihood of the new targets.
    multiplier, addend : array of shape (outputs,)
        Its outputs are ``addend + multiplier * outputs``.
    latents : mapping of str to array
        Number that is added to each latent.
    """

    likelihood: Any
    multiplier: np.ndarray
    addend: np.ndarray
    latents: Mapping[str, Any]


def per_target(output: jax.Array) -> jax.Array:
    """Drop the axis of a single output: targets of one output have the shape (rows,)."""
    return output[:, 0] if output.shape[1] == 1 else output
