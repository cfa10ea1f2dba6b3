"""Directions of L-BFGS, in the compact form of its matrix.

The usual recursion takes two short steps in sequence for every pair that it remembers. On networks
of some hundred weights these cost more than the gradient. The compact form needs three products
with all pairs at once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Memory", "direction", "init", "update"]


class Memory(NamedTuple):
    """The last few moves and the changes of the gradient in these.

    Attributes
    ----------
    pairs : array of shape (2 * length, size)
        Moves s, followed by changes of the preconditioned gradient, Py for changes y.
    inverse : array of shape (length, length)
        Triangle R: the products s'y of a move with itself and with all later changes.
    gram : array of shape (length, length)
        Products y'Py.
    curvature : array of shape (length,)
        Products s'y of a move with its own change; 0 if nothing is remembered.
    scale : array of shape ()
        s'y / y'Py of the last pair: the inverse Hessian over P, in directions without other
        information.
    slot : array of shape ()
        Place of the next pair, which replaces the oldest.
    """

    pairs: jax.Array
    inverse: jax.Array
    gram: jax.Array
    curvature: jax.Array
    scale: jax.Array
    slot: jax.Array


def init(length: int, position: jax.Array) -> Memory:
    """Return an empty memory."""
    square = jnp.zeros((length, length), position.dtype)
    pairs = jnp.zeros((2 * length, position.size), position.dtype)
    one = jnp.ones((), position.dtype)
    return Memory(pairs, square, square, square[0], one, jnp.zeros((), jnp.int32))


def update(memory: Memory, move: jax.Array, change: jax.Array, preconditioned: jax.Array) -> Memory:
    """Replace the oldest pair by a new one; one without positive curvature clears the memory.

    Parameters
    ----------
    memory : Memory
        Memory of the steps before.
    move, change : array of shape (size,)
        A step, and the change of the gradient in it.
    preconditioned : array of shape (size,)
        The change times the preconditioner.
    """
    length, slot = len(memory.curvature), memory.slot
    new = jnp.arange(length, dtype=slot.dtype) == slot
    # Two products at once are compiled as one.
    fall, square = jnp.stack([move, preconditioned]) @ change
    usable = fall > 0  # false for NaN
    fall, square = (jnp.where(usable, number, 1.0) for number in (fall, square))
    products = memory.pairs @ change
    # The pairs must be read before they are overwritten: otherwise the compiler would copy them.
    pairs, products = jax.lax.optimization_barrier((memory.pairs, products))
    with_moves, with_changes = jnp.split(products, 2)
    # Add a column of R, and so of its inverse; the oldest row and column are dropped.
    inverse = jnp.where(new[:, None] | new[None, :], 0.0, memory.inverse)
    column = jnp.where(new, 1 / fall, -(inverse @ jnp.where(new, 0.0, with_moves)) / fall)
    row = jnp.where(new, square, with_changes)
    gram = jnp.where(new[:, None], row[None, :], memory.gram)
    pair = (jnp.where(usable, vector, 0.0) for vector in (move, preconditioned))
    return Memory(
        pairs.at[slot].set(next(pair)).at[length + slot].set(next(pair)),
        jnp.where(usable, jnp.where(new[None, :], column[:, None], inverse), 0.0),
        jnp.where(usable, jnp.where(new[None, :], row[:, None], gram), 0.0),
        jnp.where(usable, jnp.where(new, fall, memory.curvature), 0.0),
        fall / square,
        (slot + 1) % length,
    )


def direction(
    memory: Memory, gradient: jax.Array, preconditioned: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Compute the direction, minus the inverse Hessian times a gradient, and the slope along it.

    Parameters
    ----------
    memory : Memory
        Moves and changes so far.
    gradient : array of shape (size,)
        The gradient.
    preconditioned : array of shape (size,)
        The gradient times the preconditioner, which replaces the inverse Hessian in directions
        without memory.

    References
    ----------
    R. H. Byrd, J. Nocedal and R. B. Schnabel, Representations of quasi-Newton matrices and their
    use in limited memory methods, 1994. doi:10.1007/BF01582063
    """
    with_moves, with_changes = jnp.split(memory.pairs @ gradient, 2)
    inner = memory.inverse @ with_moves
    middle = memory.curvature * inner + memory.scale * (memory.gram @ inner - with_changes)
    weights = jnp.concatenate([memory.inverse.T @ middle, -memory.scale * inner])
    product = memory.scale * preconditioned + weights @ memory.pairs
    slope, square = jnp.stack([product, preconditioned]) @ gradient
    # Without curvature, or if rounding has spoilt it: a step of at most one along the gradient.
    usable, length = (memory.curvature[memory.slot - 1] > 0) & (slope > 0), jnp.sqrt(square)
    shorter = jnp.maximum(1.0, length)
    return (
        -jnp.where(usable, product, preconditioned / shorter),
        -jnp.where(usable, slope, square / shorter),
    )
