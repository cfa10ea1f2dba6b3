"""Named arrays of latent numbers, and what a model says about each of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax

__all__ = ["Site", "Weights"]

Weights = Mapping[str, jax.Array]


@dataclass(frozen=True)
class Site:
    """One named array of latent numbers.

    Attributes
    ----------
    shape : tuple of int
        Shape of the array.
    dims : tuple of str
        Names of its axes, as they stand in a fit's ``posterior``.
    fan_in : int or None
        Number of inputs that a unit of this layer sums up; None for latents of a likelihood or of
        a prior.
    kind : str
        ``"weight"`` or ``"bias"``; ``"latent"`` for what is no part of a network.
    layer : str
        The layer that it belongs to; for a latent its own name.

    Examples
    --------
    >>> import weightprior as wp
    >>> wp.mlp(3, hidden=(8,)).sites["hidden_0.bias"].layer
    'hidden_0'
    """

    shape: tuple[int, ...]
    dims: tuple[str, ...]
    fan_in: int | None
    kind: str
    layer: str
