"""Calls for many items, on as many threads as there are cores, until an interrupt comes.

JAX releases Python's lock while a compiled program runs.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import jax

from weightprior._running.interrupts import Held

__all__ = ["call_in_threads", "num_cores", "stop_if"]


class _Stopped(Exception):  # noqa: N818 - not an error: users never see it
    """Signal that ends running calls after an interrupt of the main thread."""


def stop_if(held: Held) -> None:
    """End a call if an interrupt has come in the meantime."""
    if held:
        raise _Stopped


def call_in_threads(
    call: Callable[[Any], Any],
    items: Sequence[Any],
    held: Held,
    on_done: Callable[[int], Any] = lambda index: None,
    *,
    one_by_one: bool = False,
) -> list[Any]:
    """Call a function for every item.

    Parameters
    ----------
    call : callable
        The function; it runs in the precision of the calling thread.
    items : sequence
        One item per call.
    held : Held
        Interrupts that are held back: the first ends all calls.
    on_done : callable, optional
        Called on this thread with the index of each finished item.
    one_by_one : bool
        True if no two calls may run at once, as with programs that wait for several devices.

    Returns
    -------
    list
        In the order of the items.
    """
    precision = jax.config.jax_enable_x64

    def work(item: Any) -> Any:
        stop_if(held)
        with jax.enable_x64(precision):  # the setting is per thread
            return call(item)

    results: list[Any] = [None] * len(items)
    pool = ThreadPoolExecutor(1 if one_by_one else min(len(items), num_cores()))
    try:
        futures = {pool.submit(work, item): index for index, item in enumerate(items)}
        for future in as_completed(futures):
            held.release()
            results[futures[future]] = future.result()
            on_done(futures[future])
    finally:
        # After an interrupt or an error, calls that have not begun are dropped, not waited for.
        pool.shutdown(cancel_futures=True)
    return results


def num_cores() -> int:
    """Return the number of cores that this process may use; a container can limit it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
