"""Latents: what a likelihood learns beside the network's weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["Latent"]


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
        Name under which its value on the natural scale stands in a fit; none by default.
    natural : callable
        Function from the latent to its natural scale; the exponential by default.
    information : float, optional
        Expected information that one target carries about each number of it, where that is the same
        for all rows and none is shared with the outputs. None: found by differentiation, together
        with that about the outputs.
    """

    shape: tuple[int, ...] = ()
    dims: tuple[str, ...] = ()
    prior: tuple[float, float] = (0.0, 1.0)
    derived: str = ""
    natural: Callable[[jax.Array], jax.Array] = jnp.exp
    information: Any = None
