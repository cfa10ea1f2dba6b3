"""Columns of x: their number, or their names."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from weightprior import _checks

__all__ = ["checked_features"]


def checked_features(argument: str, num_features: Any) -> tuple[str | int, ...]:
    """Return names of the columns of x; 0, 1, ... if only their number is given."""
    if isinstance(num_features, str):
        raise TypeError(
            f"{argument}: expected a count or a list of names; got {num_features!r}. "
            "For one feature pass 1 or a list with its name."
        )
    if not isinstance(num_features, Iterable):
        return tuple(range(_checks.integer(argument, num_features, 1)))
    given = list(num_features)
    if any(np.ndim(name) > 0 for name in given):
        raise TypeError(f"{argument}: expected a count or a list of names; got {given!r}.")
    names = tuple(str(name) for name in given)
    if not names or len(set(names)) < len(names):
        doubled = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            f"{argument}: expected at least one name and each once; "
            f"got {len(names)} names"
            + (f", doubled: {_checks.several(doubled)}." if doubled else ".")
        )
    return names
