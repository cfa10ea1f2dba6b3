"""Evaluation of functions of draws, in double precision and a few draws at a time.

The program is compiled for one batch of draws: another number of draws compiles nothing new.
"""

import threading
from typing import Any

import jax
import numpy as np

from weightprior._running.interrupts import held_back
from weightprior._running.progress import counting
from weightprior._running.threads import call_in_threads
from weightprior.fits.programs import Program, compiled, like, placed
from weightprior.model.blocks import width_of
from weightprior.model.bnn import BNN

__all__ = ["evaluate", "key_of", "numbered", "prepare"]

# Numbers that draws evaluated at once may hold in a layer. This is enough to keep the cores busy,
# and few enough to bound memory and to stay in the cache, which is twice as fast.
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
        With the axes chain and draw in front. If a draw needs random numbers, it includes its own
        number: see `numbered`.
    *args : pytree of arrays
        Arguments that the draws have in common.
    at_once : int, optional
        Number of draws held in memory together. By default as many as the rows in `args` allow.

    Returns
    -------
    pytree of numpy arrays
        With the axes chain and draw in front.
    """
    lead = np.shape(jax.tree.leaves(draws)[0])[:2]
    count = int(np.prod(lead))
    size = 1 if count == 1 else at_once or _draws_at_once(bnn, args)
    # On the host, since there taking some of the rows compiles nothing.
    flat = jax.tree.map(lambda leaf: np.asarray(leaf).reshape((count, *np.shape(leaf)[2:])), draws)
    with jax.enable_x64(True):
        shared = placed((bnn, args))
        one = jax.tree.map(lambda leaf: leaf[0], flat)
        program = _program(function, shared, one, size, once=count == 1)
        program.wait()

        results, starts = _Results(count), range(0, count, size)

        def compute(start: int) -> None:
            # The last batch is filled up with the last draw: a remainder would be compiled.
            rows = np.minimum(np.arange(start, start + size), count - 1)
            some = program(shared, jax.tree.map(lambda leaf: leaf[rows], flat))
            results.put(start, jax.device_get(some))

        with counting(count, " draws", doing="evaluating") as done, held_back() as held:
            # Side by side if a draw is small: a large one uses all cores, and much memory.
            for some in [starts] if size > 1 else ([start] for start in starts):
                call_in_threads(
                    compute,
                    some,
                    held,
                    lambda _: done.advance(size),
                    one_by_one=program.on_devices,
                )
    return results.shaped(lead)


class _Results:
    """Results of all draws, from several threads, in arrays that hold them once."""

    def __init__(self, count: int) -> None:
        self._count, self._lock = count, threading.Lock()
        self._arrays: Any = None

    def put(self, start: int, some: Any) -> None:
        """Take the results of draws from `start` on; those after the last draw are dropped."""
        with self._lock:
            if self._arrays is None:
                self._arrays = jax.tree.map(
                    lambda leaf: np.empty((self._count, *leaf.shape[1:]), leaf.dtype), some
                )
        for whole, part in zip(*map(jax.tree.leaves, (self._arrays, some)), strict=True):
            whole[start : start + len(part)] = part[: self._count - start]

    def shaped(self, lead: tuple[int, ...]) -> Any:
        """Return the arrays, with these axes in front in place of the number of draws."""
        return jax.tree.map(lambda leaf: leaf.reshape((*lead, *leaf.shape[1:])), self._arrays)


def prepare(function, bnn: BNN, draw: Any, *args: Any, count: int) -> None:
    """Begin to compile what `evaluate` needs, in a thread of its own.

    Parameters
    ----------
    function, bnn, *args
        As for `evaluate`.
    draw : pytree of arrays or jax.ShapeDtypeStruct
        One of the draws.
    count : int
        Number of draws that there will be.
    """
    with jax.enable_x64(True):
        size = 1 if count == 1 else _draws_at_once(bnn, args)
        _program(function, (bnn, args), draw, size, once=count == 1)


def numbered(*shape: int) -> np.ndarray:
    """Return numbers to fold into a key inside the program, which needs one key for each draw.

    They stand in for keys by `jax.random.split`, which compiles for every new shape.
    """
    return np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)


def key_of(words: Any) -> jax.Array:
    """Make a random key of two words; always of one kind, whatever JAX's default is."""
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def _draws_at_once(bnn: BNN, args: Any) -> int:
    rows = max((np.shape(leaf)[0] for leaf in jax.tree.leaves(args) if np.ndim(leaf)), default=1)
    numbers = max(rows, 1) * width_of(bnn.network)
    return int(np.clip(_NUMBERS_AT_ONCE // numbers, 1, _MAX_DRAWS_AT_ONCE))


def _program(function: Any, shared: Any, draw: Any, size: int, *, once: bool) -> Program:
    return compiled(_evaluate_batch, function, shared, like(draw, (size,)), False, once=once)


def _evaluate_batch(function: Any, shared: Any, draws: Any) -> Any:
    bnn, args = shared
    return jax.vmap(lambda draw: function(bnn, draw, *args))(draws)
