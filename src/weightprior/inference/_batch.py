"""Batches of independent tasks: priors, restarts and chains, each on a core of its own.

On a CPU a batched program is slower than the loop over its parts (vmapped HMC cost five times more
per gradient), so one compiled program for a single task is called from as many threads as there
are cores; JAX releases Python's lock while it computes. On an accelerator the tasks are vmapped.
Either way the program depends on the shapes of one task alone: another prior, data set or number
of tasks compiles nothing.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import ThreadpoolController

__all__ = ["clear_programs", "prepare", "run", "tracing"]

Task = Callable[[Any, Any, Any], Any]
# Held while a program is traced, in whatever thread: NumPyro's handlers are one stack for the whole
# process. What runs in threads is compiled programs alone. Whoever holds it waits for no other
# thread, so that none can wait for it in vain.
tracing = threading.RLock()
# Compiled programs that are kept: those of a dozen models and shapes of data.
_MAX_PROGRAMS = 128


def run(
    task: Task,
    static: Any,
    shared: Any,
    items: Sequence[Any],
    *,
    on_done: Callable[[int], Any] = lambda index: None,
    vectorise: bool | None = None,
) -> list[Any]:
    """Compute ``task(static, shared, item)`` for every item.

    Parameters
    ----------
    task : callable
        A function of a module (it is part of the cache's key) from pytrees of arrays to one.
    static : hashable
        Options that are compiled in.
    shared : pytree of arrays
        What all tasks have in common.
    items : sequence of pytrees of arrays
        One per task, of equal shapes.
    on_done : callable, optional
        Called on this thread with the index of each task that ended.
    vectorise : bool, optional
        Whether to vmap; by default where the backend is not a CPU.

    Returns
    -------
    list of pytrees of numpy arrays
        In the order of `items`.
    """
    if _on_accelerator() if vectorise is None else vectorise:
        return _vectorised(task, static, shared, items, on_done)
    return _threaded(task, static, shared, items, on_done)


def prepare(task: Task, static: Any, shared: Any, item: Any, num_items: int) -> Any:
    """Begin to compile what `run` will need, in a thread of its own.

    Parameters
    ----------
    task, static, shared
        As for `run`.
    item : pytree of arrays or jax.ShapeDtypeStruct
        One of the items.
    num_items : int
        How many there will be.

    Returns
    -------
    pytree of jax.ShapeDtypeStruct
        What the task will return for an item, so that what follows can be prepared as well.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(*_kind(leaf)), item)
    if not _on_accelerator():
        return _compile(task, static, shared, shapes).returns
    stacked = jax.tree.map(lambda s: s.update(shape=(num_items, *s.shape)), shapes)
    returns = _compile(task, static, shared, stacked, vectorised=True).returns
    return jax.tree.map(lambda s: s.update(shape=s.shape[1:]), returns)


def clear_programs() -> None:
    """Forget all compiled programs, which hold memory and memory maps."""
    _compile_once.cache_clear()


def _on_accelerator() -> bool:
    return jax.default_backend() != "cpu"


def _threaded(task, static, shared, items, on_done) -> list[Any]:
    compiled = _compile(task, static, shared, items[0])
    precision = jax.config.jax_enable_x64

    def call(item):
        with jax.enable_x64(precision):  # the setting is the thread's own
            return _to_host(compiled(shared, item))

    results: list[Any] = [None] * len(items)
    pool = ThreadPoolExecutor(min(len(items), _num_cores()))
    # Matrix routines have threads of their own, which would only stand in the way of ours.
    with _one_blas_thread():
        try:
            futures = {pool.submit(call, item): index for index, item in enumerate(items)}
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                on_done(futures[future])
        finally:
            # After an interrupt or an error what has not begun is dropped, not waited for.
            pool.shutdown(cancel_futures=True)
    return results


class _Keeper(threading.Thread):
    """A thread that holds matrix routines to one thread of theirs from its start until it ends."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()

    def run(self) -> None:
        """Limit, wait, and restore."""
        with _one_each():
            self._ended.wait()

    def end(self) -> None:
        """Restore, and wait until it is done; nothing where that was never begun."""
        self._ended.set()
        if self.is_alive():
            self.join()


class _Limit:
    """The limit of matrix routines' threads, whose number is one for the whole process.

    The first of several runs that overlap sets it. Where that one ends before the others, a keeper
    takes over: were runs to restore what each of them found, the limit would stay for good, and
    threadpoolctl may let none change the number but the thread that did so first.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._runs: set[object] = set()
        self._first: object = None
        self._keeper: _Keeper | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Limit until this run has ended, and all others that overlap with it."""
        run = object()
        try:
            with _one_each() if self._begin(run) else nullcontext():
                yield
        finally:
            self._end(run)

    def _begin(self, run: object) -> bool:
        """Count a run; tell whether it is the only one."""
        with self._lock:
            if not self._runs:
                self._end_keeper()  # that an interrupt left behind
                self._first = run
            self._runs.add(run)
            return run is self._first

    def _end(self, run: object) -> None:
        """Count a run no longer, and see to it that the limit lasts as long as there are others."""
        with self._lock:
            self._runs.discard(run)
            if not self._runs:
                self._end_keeper()
            elif run is self._first:
                self._first, self._keeper = None, _Keeper()
                self._keeper.start()

    def _end_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.end()
            self._keeper = None


_one_blas_thread = _Limit()


def _one_each() -> AbstractContextManager[Any]:
    return _libraries().limit(limits=1, user_api="blas")


@cache
def _libraries() -> ThreadpoolController:
    """Libraries that have threads; to find them takes four milliseconds."""
    return ThreadpoolController()


def _vectorised(task, static, shared, items, on_done) -> list[Any]:
    stacked = _stack(items)
    compiled = _compile(task, static, shared, stacked, vectorised=True)
    result = _to_host(compiled(shared, stacked))
    for index in range(len(items)):
        on_done(index)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], result) for i in range(len(items))]


def _stack(items: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *items)


def _vmapped(task: Task) -> Task:
    return lambda static, shared, item: jax.vmap(lambda i: task(static, shared, i))(item)


class _Program(NamedTuple):
    executable: Future
    returns: Any

    def __call__(self, *args: Any) -> Any:
        with jax.disable_jit(False):  # whoever debugs code of his own, our programs are compiled
            return self.executable.result()(*args)


def _compile(task: Task, static: Any, shared: Any, item: Any, vectorised: bool = False) -> _Program:
    leaves, structure = jax.tree.flatten((shared, item))
    kinds = tuple(_kind(leaf) for leaf in leaves)
    with tracing:
        return _compile_once(task, vectorised, static, structure, kinds, jax.config.jax_enable_x64)


def _kind(leaf: Any) -> tuple[tuple[int, ...], Any]:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.shape, leaf.dtype
    return np.shape(leaf), jnp.result_type(leaf)


@lru_cache(maxsize=_MAX_PROGRAMS)
def _compile_once(
    task: Task, vectorised: bool, static: Any, structure, kinds, precision: bool
) -> _Program:
    shared, item = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*kind) for kind in kinds])
    program = _vmapped(task) if vectorised else task
    with jax.disable_jit(False):
        lowered = jax.jit(program, static_argnums=0).lower(static, shared, item)

    def compile_lowered():
        with jax.enable_x64(precision):  # the setting is the thread's own
            return lowered.compile()

    # A thread of its own, so that the programs of a fit compile side by side.
    pool = ThreadPoolExecutor(1)
    executable = pool.submit(compile_lowered)
    pool.shutdown(wait=False)
    return _Program(executable, lowered.out_info)


def _to_host(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf if _is_key(leaf) else np.asarray(leaf), tree)


def _is_key(leaf: Any) -> bool:
    """Random keys have no numpy form and stay as they are."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _num_cores() -> int:
    """Cores that this process may use, which a container can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
