"""What weights are everywhere: arrays by the name of their site."""

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
        How many numbers a unit of this layer sums up; None for `log_noise`.
    kind : str
        ``"weight"``, ``"bias"`` or ``"log_noise"``.
    """

    shape: tuple[int, ...]
    dims: tuple[str, ...]
    fan_in: int | None
    kind: str
