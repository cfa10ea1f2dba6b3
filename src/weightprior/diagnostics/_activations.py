"""Slopes of activations: the largest, and where they jump."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.networks import ACTIVATIONS

__all__ = ["kinks", "largest_slope", "slopes"]

# Signals that activations are tried at: from where all are straight to where all have levelled off.
_FAR = 40.0
_SIGNALS = np.geomspace(1e-6, _FAR, 20_001)
# Of the largest slope: what it may still grow by in the outer half, and what counts as a jump.
_GROWTH, _JUMP = 0.01, 0.01
# Halvings that take the distance between two signals below any that float64 tells apart.
_HALVINGS = 60


def slopes(activation: Any, signal: jax.Array) -> jax.Array:
    """Derivative of an activation, of the signal's shape."""
    function = ACTIVATIONS[activation] if isinstance(activation, str) else activation
    return jax.jvp(function, (signal,), (jnp.ones_like(signal),))[1]


@cache
def largest_slope(activation: Any) -> float:
    """Largest absolute slope; NaN where there is none above zero, or slopes grow without bound."""
    size = np.abs(_slopes_at(activation, _grid()))
    largest, inside = size.max(), size[np.abs(_grid()) <= _FAR / 2].max()
    bounded = 0 < largest <= (1 + _GROWTH) * inside
    return float(largest) if bounded else np.nan


@cache
def kinks(activation: Any) -> tuple[float, ...]:
    """Signals at which the slope jumps: 0 for a relu, none for a smooth activation."""
    grid = _grid()
    found = _slopes_at(activation, grid)
    least = _JUMP * np.nanmax(np.abs(found))
    candidates = np.abs(np.diff(found)) > least
    left, right = grid[:-1][candidates], grid[1:][candidates]
    for _ in range(_HALVINGS if left.size else 0):
        middle = (left + right) / 2
        low, mid, high = (_slopes_at(activation, s) for s in (left, middle, right))
        is_left = np.abs(mid - low) > np.abs(high - mid)
        left, right = np.where(is_left, left, middle), np.where(is_left, middle, right)
    if not left.size:
        return ()
    jumps = np.abs(_slopes_at(activation, right) - _slopes_at(activation, left)) > least
    # A jump lies beside the number where it happens; two grid cells may have found the same.
    return tuple(sorted({float(at) + 0.0 for at in np.round(right[jumps], 9)}))


def _grid() -> np.ndarray:
    return np.concatenate([-_SIGNALS[::-1], [0.0], _SIGNALS])


def _slopes_at(activation: Any, signals: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(slopes(activation, jnp.asarray(signals)[:, None]))[:, 0]
