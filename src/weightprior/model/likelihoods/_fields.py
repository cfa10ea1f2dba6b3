"""Fields of likelihoods that are known numbers."""

from typing import Any

from weightprior import _checks

__all__ = ["set_positive"]


def set_positive(likelihood: Any, name: str, *, optional: bool = False) -> None:
    """Replace a field by a float, or raise if it is not positive."""
    # Always a float: JAX compiles anew for an int or a numpy scalar.
    value = getattr(likelihood, name)
    if value is not None or not optional:
        object.__setattr__(likelihood, name, _checks.number(name, value, above=0))
