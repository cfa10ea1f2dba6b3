"""A choice between two computations: under vmap both run only if lanes differ.

With `jax.lax.cond`, both branches always run in every lane under `jax.vmap`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

__all__ = ["choose"]


def choose(
    which: jax.Array, first: Callable[..., Any], second: Callable[..., Any], *operands: jax.Array
) -> jax.Array:
    """Compute ``first(*operands)`` if `which` is true, and ``second(*operands)`` otherwise.

    Parameters
    ----------
    which : array of shape ()
        Under `jax.vmap`, one per lane.
    first, second : callable
        Both return an array of the same shape and dtype. They must not close over traced values.
    *operands : array
        Arguments of both.
    """
    precise = jax.config.jax_enable_x64

    @custom_vmap
    def chosen(which: jax.Array, *operands: jax.Array) -> jax.Array:
        return jax.lax.cond(which, first, second, *operands)

    @chosen.def_vmap
    def of_lanes(size: int, batched: Any, which: jax.Array, *operands: jax.Array) -> Any:
        given = [
            a if lanes else jnp.broadcast_to(a, (size, *a.shape))
            for a, lanes in zip((which, *operands), batched, strict=True)
        ]

        def both(which: jax.Array, *operands: jax.Array) -> jax.Array:
            one, other = (jax.vmap(branch)(*operands) for branch in (first, second))
            return jnp.where(which.reshape(size, *[1] * (one.ndim - 1)), one, other)

        def alone(branch: Callable[..., Any]) -> Callable[..., Any]:
            return lambda _, *operands: jax.vmap(branch)(*operands)

        with jax.enable_x64(precise):  # vmap calls this after the caller has returned
            number = jnp.where(given[0].all(), 0, jnp.where(given[0].any(), 1, 2))
            return jax.lax.switch(number, [alone(first), both, alone(second)], *given), True

    return chosen(which, *operands)
