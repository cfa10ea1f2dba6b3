"""Limit of one thread for each matrix routine, while tasks use the cores."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


class _Keeper(threading.Thread):
    """A thread that limits matrix routines to one thread from its start until it ends."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()

    def run(self) -> None:
        """Limit, wait, and restore."""
        with _one_each():
            self._ended.wait()

    def end(self) -> None:
        """Restore, and wait until it is done; do nothing if it was never begun."""
        self._ended.set()
        if self.is_alive():
            self.join()


class _Limit:
    """The limit on the threads of matrix routines, which is one setting for the whole process.

    The first of several overlapping runs sets it. If that run ends before the others, a keeper
    takes over. If every run restored the number that it found, the limit would stay for good.
    Besides, threadpoolctl may let only the thread that first changed the number change it again.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._runs: set[object] = set()
        self._first: object = None
        self._keeper: _Keeper | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Keep the limit until this run, and all others that overlap with it, have ended."""
        run = object()
        try:
            with _one_each() if self._begin(run) else nullcontext():
                yield
        finally:
            self._end(run)

    def _begin(self, run: object) -> bool:
        """Register a run; tell if it is the only one."""
        with self._lock:
            if not self._runs:
                self._end_keeper()  # one that an interrupt left behind
                self._first = run
            self._runs.add(run)
            return run is self._first

    def _end(self, run: object) -> None:
        """Unregister a run, and keep the limit as long as there are others."""
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


one_blas_thread = _Limit()


def _one_each() -> AbstractContextManager[Any]:
    return _libraries().limit(limits=1, user_api="blas")


@cache
def _libraries() -> ThreadpoolController:
    """Return the libraries that have threads; to find them takes four milliseconds."""
    return ThreadpoolController()
