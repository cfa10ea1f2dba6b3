"""Distributions of standardised weights, and of local scales."""

from typing import Any

import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints

__all__ = ["describe_distribution", "is_local", "two_moments"]


def is_local(shape: dist.Distribution) -> bool:
    """Tell if a distribution is one of local scales, and not of weights."""
    return shape.support is constraints.positive


def two_moments(shape: dist.Distribution | None) -> tuple[Any, Any]:
    """Return the mean and mean square of a standardised weight; inf if there is none."""
    if shape is None:
        return 0.0, 1.0
    try:
        mean, variance = float(shape.mean), float(shape.variance)
    except ZeroDivisionError:  # NumPyro raises this for some that have none
        return 0.0, np.inf
    if not np.isfinite(variance):
        return 0.0, np.inf
    return 0.0 if is_local(shape) else mean, variance + mean**2


def describe_distribution(shape: dist.Distribution) -> str:
    """Write a distribution with its numbers."""
    numbers = [f"{name}={float(getattr(shape, name)):g}" for name in shape.arg_constraints]
    return f"{type(shape).__name__}({', '.join(numbers)})"
