"""Functions of draws, evaluated in double precision and a few draws at a time."""

from typing import Any

import jax
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
        What the draws have in common.
    at_once : int, optional
        Draws that are held in memory together. By default as many as the rows in `args` allow.

    Returns
    -------
    pytree of numpy arrays
        With the axes chain and draw in front.
    """
    lead = np.shape(jax.tree.leaves(draws)[0])[:2]
    at_once = at_once or _draws_at_once(bnn, args)
    with jax.enable_x64(True):
        flat = jax.tree.map(lambda a: a.reshape((-1, *a.shape[2:])), draws)
        out = jax.device_get(_evaluate(function, at_once, bnn, flat, args))
    return jax.tree.map(lambda a: np.asarray(a).reshape((*lead, *a.shape[1:])), out)


def _draws_at_once(bnn: BNN, args: Any) -> int:
    rows = max((np.shape(leaf)[0] for leaf in jax.tree.leaves(args) if np.ndim(leaf)), default=1)
    network = bnn.network
    widths = [max(site.shape, default=1) for site in network.sites.values()]
    width = max(*widths, network.num_outputs, len(network.feature_names))
    return int(np.clip(_NUMBERS_AT_ONCE // (max(rows, 1) * width), 1, _MAX_DRAWS_AT_ONCE))


def _evaluate_all(function, at_once, bnn, draws, args):
    # Batches of one size, filled up with the last draw: a remainder would be compiled, too.
    count = jax.tree.leaves(draws)[0].shape[0]
    num_batches = -(-count // at_once)
    size = -(-count // num_batches)
    chosen = np.minimum(np.arange(num_batches * size), count - 1).reshape(num_batches, size)
    batches = jax.tree.map(lambda a: a[chosen], draws)
    out = jax.lax.map(jax.vmap(lambda draw: function(bnn, draw, *args)), batches)
    return jax.tree.map(lambda a: a.reshape((chosen.size, *a.shape[2:]))[:count], out)


_evaluate = jax.jit(_evaluate_all, static_argnums=(0, 1))
