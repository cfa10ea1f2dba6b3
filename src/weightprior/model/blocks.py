"""Functions of many rows, computed block by block: what lies in between is held of one block alone.

Derivatives compute a block again rather than keep it, and add blocks up in double precision.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["fold_rows", "map_rows", "rows_at_once", "width_of"]

# Numbers that a layer may hold of one block. On a CPU ten times as many take three times as long
# for each, since memory is slower than caches; the cores of an accelerator want more of them.
_NUMBERS_AT_ONCE, _NUMBERS_ON_ACCELERATORS = 2**20, 2**26
# Blocks of a multiple of so many rows: those of an odd number take twice as long.
_ALIGNED = 16


def width_of(network) -> int:
    """Numbers that the widest layer holds of a row, as far as the sites tell."""
    widths = [max(site.shape, default=1) for site in network.sites.values()]
    return max(*widths, network.num_outputs, len(network.feature_names))


def rows_at_once(network) -> int:
    """Rows of which a block is to be made at the most."""
    on_cpu = jax.default_backend() == "cpu"
    return max(1, (_NUMBERS_AT_ONCE if on_cpu else _NUMBERS_ON_ACCELERATORS) // width_of(network))


def fold_rows(
    add: Callable[..., Any], total: Any, rows: tuple[jax.Array, ...], at_once: int
) -> Any:
    """Add blocks of rows to a total, one after the other.

    Parameters
    ----------
    add : callable
        ``add(total, *block)`` returns the new total.
    total : pytree of arrays
        What it begins with, of any precision: `add` is traced where double precision is to be had.
    rows : tuple of arrays
        With the rows in front. The last are the row weights, which are 0 for a row that is in two
        blocks, in one of them.
    at_once : int
        Rows of a block at the most.
    """
    blocks = _Blocks.of(len(rows[0]), at_once)

    def step(total: Any, block: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        start, first = block
        *others, counts = (jax.lax.dynamic_slice_in_dim(a, start, blocks.size) for a in rows)
        again = start + jnp.arange(blocks.size, dtype=start.dtype) < first
        return add(total, *others, jnp.where(again, jnp.zeros_like(counts), counts)), None

    with jax.enable_x64(True):
        starts = jnp.asarray(blocks.starts), jnp.asarray(blocks.firsts)
        return jax.lax.scan(step, total, starts)[0]


def map_rows(
    function: Callable[[Any, Any], jax.Array],
    weights: Mapping[str, jax.Array],
    x: Any,
    at_once: int,
) -> jax.Array:
    """Compute ``function(weights, x)``, whose rows depend on one row of `x` each, by blocks.

    Parameters
    ----------
    function : callable
        Returns an array with the rows in front.
    weights : mapping of str to array
        What derivatives may be taken in.
    x : array of shape (rows, features)
        Inputs.
    at_once : int
        Rows of a block at the most.
    """
    if len(x) <= at_once:
        return function(weights, x)
    blocks = _Blocks.of(len(x), at_once)
    x, ambient = jnp.asarray(x), jax.config.jax_enable_x64

    # Derivatives in `precise` are in double precision, and so is the sum of those of all blocks.
    @jax.checkpoint
    def of_block(precise: Mapping[str, jax.Array], start: jax.Array) -> jax.Array:
        given = {name: a.astype(weights[name].dtype) for name, a in precise.items()}
        rows = jax.lax.dynamic_slice_in_dim(x, start, blocks.size)
        with jax.enable_x64(ambient):
            return function(given, rows)

    with jax.enable_x64(True):
        precise = {name: jnp.asarray(a).astype(jnp.float64) for name, a in weights.items()}
        found = jax.lax.map(lambda start: of_block(precise, start), blocks.starts)
    again = int(blocks.firsts[-1] - blocks.starts[-1])
    return jnp.concatenate([found[:-1].reshape(-1, *found.shape[2:]), found[-1, again:]])


class _Blocks(NamedTuple):
    """Rows cut into blocks of one size.

    Attributes
    ----------
    starts : array of int
        First row of every block; the last begins so early that it has the size of the others.
    firsts : array of int
        First row of each that is in no block before it.
    size : int
        Rows of a block.
    """

    starts: np.ndarray
    firsts: np.ndarray
    size: int

    @classmethod
    def of(cls, num_rows: int, at_once: int) -> Self:
        """Cut rows into as few blocks as can be, of about as many rows as `at_once` each."""
        size = -(-num_rows // -(-num_rows // at_once))
        size = min(-(-size // _ALIGNED) * _ALIGNED, num_rows)
        firsts = np.arange(-(-num_rows // size), dtype=np.int32) * size
        return cls(np.minimum(firsts, num_rows - size), firsts, size)
