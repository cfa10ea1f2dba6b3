"""Functions of many rows, computed by blocks: intermediate values are held for one block only.

Derivatives compute a block again instead of storing it, and add up blocks in double precision.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["divided", "fold_rows", "map_rows", "rows_at_once", "sum_rows", "width_of"]

# Largest number of values of a layer over all rows, or else over a block of them. On a CPU more
# values do not fit into its caches, and each takes three times as long. The cores of an accelerator
# need many values.
_MOST_AT_ONCE, _OF_A_BLOCK = 2**20, 2**18
_ON_ACCELERATORS = 2**26
# Number of devices among which the rows of the traced program are divided.
_num_devices = ContextVar("num_devices", default=1)
# Blocks have a multiple of this many rows: blocks of an odd number take twice as long.
_ALIGNED = 16


def width_of(network) -> int:
    """Return the number of values of the widest layer per row, as far as the sites tell."""
    widths = [max(site.shape, default=1) for site in network.sites.values()]
    return max(*widths, network.num_outputs, len(network.feature_names))


def rows_at_once(network, num_rows: int) -> int:
    """Return the number of rows computed together: all of them, or those of a block."""
    width, on_cpu = width_of(network), jax.default_backend() == "cpu"
    if num_rows * width <= (_MOST_AT_ONCE if on_cpu else _ON_ACCELERATORS):
        return num_rows
    return max(1, (_OF_A_BLOCK if on_cpu else _ON_ACCELERATORS) // width)


@contextmanager
def divided(num_devices: int) -> Iterator[None]:
    """Trace a program with rows that are divided among `num_devices` devices."""
    token = _num_devices.set(num_devices)
    try:
        yield
    finally:
        _num_devices.reset(token)


def _on_every_device(of_rows: Callable[..., Any], rows: tuple[jax.Array, ...]) -> Any:
    """Compute ``of_rows(*rows)`` for each device's rows, with the devices in front.

    A block cut out of all rows would first be collected from the devices.
    """
    if (count := _num_devices.get()) == 1:
        return jax.tree.map(lambda found: found[None], of_rows(*rows))
    return jax.vmap(of_rows)(*(a.reshape(count, -1, *a.shape[1:]) for a in rows))


def fold_rows(
    add: Callable[..., Any],
    total: Any,
    rows: tuple[jax.Array, ...],
    at_once: int,
    join: Callable[[Any], Any] | None = None,
) -> Any:
    """Add blocks of rows to a total, one after the other.

    Parameters
    ----------
    add : callable
        ``add(total, *block)`` returns the new total.
    total : pytree of arrays
        Zeros, of any precision: `add` is traced with double precision enabled.
    rows : tuple of arrays
        With the rows in front. The last are the row weights: if a row is in two blocks, its weight
        is 0 in one of them.
    at_once : int
        Rows of a block at the most.
    join : callable, optional
        Joins the totals of all devices, which are in front, to one; by default it is their sum.
    """

    def of_rows(*rows: jax.Array) -> Any:
        blocks = _Blocks.of(len(rows[0]), at_once)
        return jax.lax.scan(
            lambda total, block: (add(total, *blocks.take(rows, *block)), None),
            total,
            (jnp.asarray(blocks.starts), jnp.asarray(blocks.firsts)),
        )[0]

    with jax.enable_x64(True):
        found = _on_every_device(of_rows, rows)
        return jax.tree.map(_total, found) if join is None else join(found)


def sum_rows(
    function: Callable[..., jax.Array],
    weights: Mapping[str, jax.Array],
    rows: tuple[jax.Array, ...],
    at_once: int,
) -> jax.Array:
    """Sum up ``function(weights, *block)`` over blocks of rows, in double precision.

    Parameters
    ----------
    function : callable
        Returns an array of shape ().
    weights : mapping of str to array
        Derivatives may be taken with respect to them.
    rows : tuple of arrays
        Inputs, and others as for `fold_rows`.
    at_once : int
        Rows of a block at the most.
    """
    ambient = jax.config.jax_enable_x64

    def of_rows(*rows: jax.Array) -> jax.Array:
        blocks = _Blocks.of(len(rows[0]), at_once)

        # The block is cut out inside, since otherwise derivatives would hold all blocks.
        @jax.checkpoint
        def of_block(
            precise: Mapping[str, jax.Array], start: jax.Array, first: jax.Array
        ) -> jax.Array:
            given = _as_they_were(precise, weights)
            x, *others = blocks.take(rows, start, first)
            x = x.astype(next(iter(given.values())).dtype)
            with jax.enable_x64(ambient):
                found = function(given, x, *others)
            return found.astype(jnp.float64)

        return jax.lax.scan(
            lambda total, block: (total + of_block(precise, *block), None),
            jnp.zeros((), jnp.float64),
            (jnp.asarray(blocks.starts), jnp.asarray(blocks.firsts)),
        )[0]

    with jax.enable_x64(True):
        precise = _precise(weights)
        return _total(_on_every_device(of_rows, rows))


def map_rows(
    function: Callable[[Any, Any], jax.Array],
    weights: Mapping[str, jax.Array],
    x: Any,
    at_once: int,
) -> jax.Array:
    """Compute ``function(weights, x)`` by blocks; each of its rows depends on one row of `x`.

    Parameters
    ----------
    function : callable
        Returns an array with the rows in front.
    weights : mapping of str to array
        Derivatives may be taken with respect to them.
    x : array of shape (rows, features)
        Inputs.
    at_once : int
        Rows of a block at the most.
    """
    if len(x) <= at_once:
        return function(weights, x)
    ambient = jax.config.jax_enable_x64

    def of_rows(x: jax.Array) -> jax.Array:
        blocks = _Blocks.of(len(x), at_once)

        @jax.checkpoint
        def of_block(precise: Mapping[str, jax.Array], start: jax.Array) -> jax.Array:
            given = _as_they_were(precise, weights)
            (rows,) = blocks.slices((x,), start)
            rows = rows.astype(next(iter(given.values())).dtype)
            with jax.enable_x64(ambient):
                return function(given, rows)

        found = jax.lax.map(lambda start: of_block(precise, start), blocks.starts)
        again = int(blocks.firsts[-1] - blocks.starts[-1])
        return jnp.concatenate([found[:-1].reshape(-1, *found.shape[2:]), found[-1, again:]])

    with jax.enable_x64(True):
        precise = _precise(weights)
        found = _on_every_device(of_rows, (jnp.asarray(x),))
    return found.reshape(-1, *found.shape[2:])


def _total(of_devices: jax.Array) -> jax.Array:
    """Sum over the devices in front."""
    return of_devices[0] if len(of_devices) == 1 else of_devices.sum(axis=0)


class _Blocks(NamedTuple):
    """Rows cut into blocks of one size.

    Attributes
    ----------
    starts : array of int
        First row of every block; the last block begins early enough to have the size of the others.
    firsts : array of int
        First row of each block that is in no block before it.
    size : int
        Rows of a block.
    """

    starts: np.ndarray
    firsts: np.ndarray
    size: int

    @classmethod
    def of(cls, num_rows: int, at_once: int) -> Self:
        """Cut rows into as few blocks as possible, of about `at_once` rows each."""
        size = -(-num_rows // -(-num_rows // at_once))
        size = min(-(-size // _ALIGNED) * _ALIGNED, num_rows)
        firsts = np.arange(-(-num_rows // size), dtype=np.int32) * size
        return cls(np.minimum(firsts, num_rows - size), firsts, size)

    def slices(self, rows: tuple[jax.Array, ...], start: jax.Array) -> list[jax.Array]:
        """Cut a block out of arrays with the rows in front."""
        return [jax.lax.dynamic_slice_in_dim(array, start, self.size) for array in rows]

    def take(
        self, rows: tuple[jax.Array, ...], start: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, ...]:
        """Cut out a block; its row weights, the last array, are 0 for rows of earlier blocks."""
        *others, counts = self.slices(rows, start)
        again = start + jnp.arange(self.size, dtype=start.dtype) < first
        return *others, jnp.where(again, jnp.zeros_like(counts), counts)


def _precise(weights: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Return weights in double precision, so that their derivatives are summed in it."""
    return {name: jnp.asarray(array).astype(jnp.float64) for name, array in weights.items()}


def _as_they_were(
    precise: Mapping[str, jax.Array], weights: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    return {name: array.astype(weights[name].dtype) for name, array in precise.items()}
