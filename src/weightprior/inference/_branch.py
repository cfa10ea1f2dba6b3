"""A choice between two computations, of which vmap runs both only where lanes differ.

Under `jax.vmap` both branches of `jax.lax.cond` run in every lane, always.
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
    """Compute ``first(*operands)`` where `which` is true, and ``second(*operands)`` elsewhere.

    Parameters
    ----------
    which : array of shape ()
        Under `jax.vmap` one of each lane.
    first, second : callable
        Return an array, of one shape and dtype. They close over no traced values.
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

        with jax.enable_x64(precise):  # vmap asks when the caller has left
            number = jnp.where(given[0].all(), 0, jnp.where(given[0].any(), 1, 2))
            return jax.lax.switch(number, [alone(first), both, alone(second)], *given), True

    return chosen(which, *operands)
