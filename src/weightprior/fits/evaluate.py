"""Functions of draws, evaluated in double precision and a few draws at a time.

The compiled program knows one batch of draws: how many draws there are compiles nothing.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.model.bnn import BNN

__all__ = ["evaluate"]

# Numbers that draws evaluated at once may hold in a layer: enough to keep the cores busy, few
# enough to stay in their cache, which is twice as quick as what does not, and to bound memory.
_NUMBERS_AT_ONCE = 2**18
_MAX_DRAWS_AT_ONCE = 64


def evaluate(function, bnn: BNN, draws: Any, *args: Any, at_once: int | None = None) -> Any:
    """Compute ``function(bnn, draw, *args)`` for every draw, in double precision.

    Parameters
    ----------
    function : callable
        A function of a module, so that it compiles once.
    bnn : BNN
        The model.
    draws : pytree of arrays
        With the axes chain and draw in front.
    *args : pytree of arrays
        Arguments that the draws have in common.
    at_once : int, optional
        Draws that are held in memory together. By default as many as the rows in `args` allow.

    Returns
    -------
    pytree of numpy arrays
        With the axes chain and draw in front.
    """
    lead = np.shape(jax.tree.leaves(draws)[0])[:2]
    count = int(np.prod(lead))
    size = 1 if count == 1 else at_once or _draws_at_once(bnn, args)
    flat = jax.tree.map(lambda leaf: _Host.of(leaf, count), draws)
    with jax.enable_x64(True):
        shared = jax.device_put((bnn, args))  # once for all batches
        pieces = []
        for start in range(0, count, size):
            # The last batch is filled up with the last draw: a remainder would be compiled, too.
            chosen = np.minimum(np.arange(start, start + size), count - 1)
            batch = jax.tree.map(lambda leaf, rows=chosen: leaf.take(rows), flat, is_leaf=_is_host)
            pieces.append(jax.device_get(_evaluate(function, *shared, batch)))
    return jax.tree.map(
        lambda *parts: np.concatenate(parts)[:count].reshape((*lead, *parts[0].shape[1:])), *pieces
    )


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class _Host:
    """An array on the host, where taking some of its rows compiles nothing; keys as their words."""

    array: Any
    key_impl: Any = None  # of keys

    @classmethod
    def of(cls, leaf: Any, count: int) -> "_Host":
        """Take an array of draws to the host, all of its draws on one axis."""
        is_key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
        impl = jax.random.key_impl(leaf) if is_key else None
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        return cls(array.reshape((count, *array.shape[2:])), impl)

    def take(self, rows: np.ndarray) -> "_Host":
        """Draws with these numbers."""
        return _Host(self.array[rows], self.key_impl)

    def restored(self) -> jax.Array:
        """The array in a traced program, keys as keys."""
        if self.key_impl is None:
            return self.array
        return jax.random.wrap_key_data(self.array, impl=self.key_impl)

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        """Split into array and structure."""
        return (self.array,), self.key_impl

    @classmethod
    def tree_unflatten(cls, key_impl, children):
        """Rebuild from array and structure."""
        return cls(children[0], key_impl)


def _is_host(leaf: Any) -> bool:
    return isinstance(leaf, _Host)


def _draws_at_once(bnn: BNN, args: Any) -> int:
    rows = max((np.shape(leaf)[0] for leaf in jax.tree.leaves(args) if np.ndim(leaf)), default=1)
    network = bnn.network
    widths = [max(site.shape, default=1) for site in network.sites.values()]
    width = max(*widths, network.num_outputs, len(network.feature_names))
    return int(np.clip(_NUMBERS_AT_ONCE // (max(rows, 1) * width), 1, _MAX_DRAWS_AT_ONCE))


def _evaluate_batch(function, bnn, args, batch):
    draws = jax.tree.map(_Host.restored, batch, is_leaf=_is_host)
    return jax.vmap(lambda draw: function(bnn, draw, *args))(draws)


_evaluate = jax.jit(_evaluate_batch, static_argnums=0)
