"""A Markov chain between two iterations, and the level from which its log density is counted."""

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
        Seed of its moves.
    iteration : array of shape ()
        Number of iterations done.
    state : pytree of arrays
        The kernel's own state.
    level : array of shape () or None
        Level from which its log density is counted. With many rows the log density is so large that
        in single precision the energy of a move would be lost. None if it is counted from 0.
    """

    key: jax.Array
    iteration: jax.Array
    state: Any
    level: jax.Array | None = None


def with_own_level(kernel: Kernel, state: Any, level: jax.Array) -> tuple[Any, jax.Array]:
    """Count a state's log density from its current value, so that small changes keep digits."""
    value = kernel.log_density(state)
    with jax.enable_x64(True):
        whole = level.astype(jnp.float64) + value.astype(jnp.float64)
        new = whole.astype(level.dtype)
        rest = (whole - new.astype(jnp.float64)).astype(value.dtype)
    known = jnp.isfinite(value)
    value, level = jnp.where(known, rest, value), jnp.where(known, new, level)
    return kernel.with_log_density(state, value), level
