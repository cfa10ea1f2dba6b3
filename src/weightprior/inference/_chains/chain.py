"""A Markov chain between two iterations, and the level that its log density is counted from."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightprior.inference._chains.kernel import Kernel

__all__ = ["Chain", "with_own_level"]


class Chain(NamedTuple):
    """A chain between two iterations.

    Attributes
    ----------
    key : JAX key
        Decides its moves.
    iteration : array of shape ()
        Iterations that it has done.
    state : pytree of arrays
        The kernel's own.
    level : array of shape () or None
        From where its log density is counted: of many rows it is so large a number that single
        precision would lose the energy of a move in it. None where it is counted from 0.
    """

    key: jax.Array
    iteration: jax.Array
    state: Any
    level: jax.Array | None = None


def with_own_level(kernel: Kernel, state: Any, level: jax.Array) -> tuple[Any, jax.Array]:
    """Count a state's log density from what it is now, so that its small changes keep digits."""
    value = kernel.log_density(state)
    with jax.enable_x64(True):
        whole = level.astype(jnp.float64) + value.astype(jnp.float64)
        new = whole.astype(level.dtype)
        rest = (whole - new.astype(jnp.float64)).astype(value.dtype)
    known = jnp.isfinite(value)
    value, level = jnp.where(known, rest, value), jnp.where(known, new, level)
    return kernel.with_log_density(state, value), level
