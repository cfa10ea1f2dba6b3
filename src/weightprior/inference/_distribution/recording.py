"""Warnings of one thread, recorded while other threads warn as usual."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

__all__ = ["Warned", "recorded"]


class Warned(NamedTuple):
    """A warning: its category and its text."""

    category: type[Warning]
    message: str


class _Recorder:
    """Replacement of the process's `showwarning` while any thread records.

    `warnings.catch_warnings` alone would mix up the threads of a worker.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lists: dict[int, list[Warned]] = {}
        self._catch: Any = None

    def begin(self) -> list[Warned]:
        """Record the warnings of this thread from now on."""
        with self._lock:
            if self._catch is None:
                self._catch = warnings.catch_warnings()
                self._catch.__enter__()
                self._others = warnings.showwarning
                warnings.showwarning = self._show
                warnings.simplefilter("always")
            return self._lists.setdefault(threading.get_ident(), [])

    def end(self) -> None:
        """Show warnings of this thread again."""
        with self._lock:
            del self._lists[threading.get_ident()]
            if not self._lists:
                self._catch.__exit__(None, None, None)
                self._catch = None

    def _show(self, message: Any, category: Any, *where: Any, **options: Any) -> None:
        found = self._lists.get(threading.get_ident())
        if found is None:
            self._others(message, category, *where, **options)
        else:
            found.append(Warned(category, str(message)))


_recorder = _Recorder()


@contextmanager
def recorded() -> Iterator[list[Warned]]:
    """Record all warnings of the block in this thread, repeated ones too."""
    found = _recorder.begin()
    try:
        yield found
    finally:
        _recorder.end()
