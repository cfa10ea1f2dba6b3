"""Activations: the known ones by name, and the slopes, kinks and symmetry of any of them."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior import _checks

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "activation_function",
    "checked_activations",
    "describe_activation",
    "is_odd",
    "kinks",
    "largest_slope",
    "slopes",
]

Activation = Callable[[jax.Array], jax.Array]
# A function is recognised by its values at these signals: all lambdas have one name.
_RECOGNISED_BY = np.linspace(-8.0, 8.0, 161, dtype=np.float32)
# Signals at which activations are tried: from the straight part of all to the flat part of all.
_LARGEST_SIGNAL = 40.0
_SIGNALS = np.geomspace(1e-6, _LARGEST_SIGNAL, 20_001)
# Shares of the largest slope: its possible growth in the outer half, and the least jump.
_GROWTH, _JUMP = 0.01, 0.01
# Halvings after which float64 does not tell two signals apart.
_HALVINGS = 60


def _identity(x: jax.Array) -> jax.Array:
    return x


def _gelu(x: jax.Array) -> jax.Array:
    # The exact form, as in PyTorch and Keras; JAX's default is an approximation.
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Activation] = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "gelu": _gelu,
    "identity": _identity,
}


def activation_function(activation: str | Activation) -> Activation:
    """Return the function of an activation, which may be given by its name."""
    return ACTIVATIONS[activation] if isinstance(activation, str) else activation


@cache
def describe_activation(activation: str | Activation) -> str:
    """Name an activation; a callable by its values as well."""
    if isinstance(activation, str):
        return activation
    with jax.enable_x64(False):
        values = np.round(np.asarray(activation(jnp.asarray(_RECOGNISED_BY)), np.float64), 4)
    digest = hashlib.sha256(values.tobytes()).hexdigest()[:16]
    return f"{getattr(activation, '__name__', type(activation).__name__)} sha256 {digest}"


def slopes(activation: Activation, signal: jax.Array) -> jax.Array:
    """Compute the derivative of an activation, of the signal's shape."""
    return jax.jvp(activation, (signal,), (jnp.ones_like(signal),))[1]


@cache
def largest_slope(activation: Activation) -> float:
    """Compute the largest absolute slope; NaN if all are zero, or if slopes grow without bound."""
    size = np.abs(_slopes_at(activation, _grid()))
    largest, inside = size.max(), size[np.abs(_grid()) <= _LARGEST_SIGNAL / 2].max()
    bounded = 0 < largest <= (1 + _GROWTH) * inside
    return float(largest) if bounded else np.nan


@cache
def kinks(activation: Activation) -> tuple[float, ...]:
    """Find the signals at which the slope jumps: 0 for a relu, none for a smooth activation."""
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
    # A jump is found next to its place; two grid cells may have found the same one.
    return tuple(sorted({float(at) + 0.0 for at in np.round(right[jumps], 9)}))


def _grid() -> np.ndarray:
    return np.concatenate([-_SIGNALS[::-1], [0.0], _SIGNALS])


def _slopes_at(activation: Activation, signals: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(slopes(activation, jnp.asarray(signals)[:, None]))[:, 0]


@cache
def is_odd(activation: Activation) -> bool:
    """Tell if an activation is odd: changing the sign of its input changes that of its output."""
    signal = np.append(np.geomspace(1e-3, 30.0, 200), 0.0)[:, None]
    with jax.enable_x64(True):
        right, left = (np.asarray(activation(jnp.asarray(s))) for s in (signal, -signal))
    # Thousands of times the rounding of float64, and a millionth of any visible difference.
    return bool(np.allclose(right, -left, rtol=1e-12, atol=1e-12))


def checked_activations(activation: Any, num_layers: int) -> tuple[str | Activation, ...]:
    """Return an activation for each hidden layer, or raise."""
    given: tuple[Any, ...]
    if isinstance(activation, str) or callable(activation):
        given = (activation,)
        chosen = given * num_layers
    elif isinstance(activation, Sequence):
        chosen = given = tuple(activation)
    else:
        raise TypeError(
            f"activation: expected one of {_checks.several(ACTIVATIONS)}, a callable, or a list "
            f"with one for each hidden layer; got {activation!r}."
        )
    if len(chosen) != num_layers:
        raise ValueError(
            f"activation: expected one for all hidden layers or one for each of the {num_layers}; "
            f"got {len(chosen)}."
        )
    # A single wrong name is an error even if no hidden layer would use it.
    for act in given:
        if callable(act):
            _elementwise(act)
        else:
            _checks.one_of("activation", act, ACTIVATIONS)
    return chosen


def _elementwise(activation: Any) -> None:
    signal = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    try:
        result = jax.eval_shape(activation, signal)
    except Exception as error:
        raise TypeError(
            "activation: expected an elementwise function of one JAX array (jax.numpy.sin, not "
            f"numpy.sin); got {activation!r}, which raises {type(error).__name__}."
        ) from error
    if getattr(result, "shape", None) != signal.shape:
        raise ValueError(
            "activation: expected a function that keeps the shape of its array; "
            f"got {activation!r}, which turns (2, 3) into {getattr(result, 'shape', result)!r}."
        )
