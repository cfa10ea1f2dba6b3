"""The inverse of a positive definite matrix, by halves, in the time that LAPACK's potri takes.

JAX solves for every column of the identity, although half of its result is zeros: that takes twice
as long.
"""

import jax
import jax.numpy as jnp

__all__ = ["inverse"]

# Number of columns of a block that is not halved, and their share of a large matrix: below it,
# compiling would take longer than is saved.
_FEW, _SHARE = 100, 6


def inverse(matrix: jax.Array) -> jax.Array:
    """Compute the inverse of a positive definite matrix; the identity if it is not one.

    Parameters
    ----------
    matrix : array of shape (size, size)
        Matrix; only its lower triangle is read.
    """
    few = max(_FEW, len(matrix) // _SHARE)
    root = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    found = _square(_inverse_of_root(root, few), few)
    return jnp.where(jnp.all(jnp.isfinite(found)), found, jnp.eye(len(matrix), dtype=matrix.dtype))


def _inverse_of_root(root: jax.Array, few: int) -> jax.Array:
    """Compute the inverse of a lower triangular matrix."""
    if len(root) <= few:
        identity = jnp.eye(len(root), dtype=root.dtype)
        return jax.lax.linalg.triangular_solve(root, identity, left_side=True, lower=True)
    first, corner, last = _parts(root)
    first, last = _inverse_of_root(first, few), _inverse_of_root(last, few)
    corner = -last @ (corner @ first)
    return jnp.block([[first, jnp.zeros_like(corner.T)], [corner, last]])


def _square(root: jax.Array, few: int) -> jax.Array:
    """Multiply the transpose of a lower triangular matrix by the matrix."""
    if len(root) <= few:
        return root.T @ root
    first, corner, last = _parts(root)
    mixed = last.T @ corner
    first, last = _square(first, few) + corner.T @ corner, _square(last, few)
    return jnp.block([[first, mixed.T], [mixed, last]])


def _parts(root: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the blocks of a lower triangular matrix, except the one of zeros."""
    half = len(root) // 2
    return root[:half, :half], root[half:, :half], root[half:, half:]
