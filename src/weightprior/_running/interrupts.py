"""Interrupts that wait until no operation is half done.

Python may raise Ctrl-C between any two of its instructions: in the tracing of a program, which
would leave JAX and NumPyro in the middle of it, or between setting a limit and its end.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Held", "held_back"]


class Held:
    """An interrupt that came while interrupts were held back, if any."""

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def __bool__(self) -> bool:
        return self._error is not None

    def note(self, error: BaseException) -> None:
        """Keep the error that the interrupt will raise."""
        self._error = error

    def release(self) -> None:
        """Raise the interrupt, if one came."""
        if self._error is not None:
            raise self._error


# Of the block that holds interrupts back; interrupts reach only the main thread.
_outer: Held | None = None


@contextmanager
def held_back() -> Iterator[Held]:
    """Hold interrupts back until the block has ended; the block can ask for them and end early.

    The handler of Ctrl-C is called at once; its error waits. Interrupts reach only the main thread:
    in other threads this does nothing.
    """
    global _outer
    if threading.current_thread() is not threading.main_thread():
        yield Held()
        return
    if _outer is not None:
        yield _outer
        return
    held, handler = Held(), signal.getsignal(signal.SIGINT)
    if not callable(handler):  # no handler in Python
        yield held
        return

    def note(number: int, frame: Any) -> None:
        try:
            handler(number, frame)
        except BaseException as error:
            held.note(error)

    try:
        signal.signal(signal.SIGINT, note)
        _outer = held
        yield held
    finally:
        _outer = None
        signal.signal(signal.SIGINT, handler)
        held.release()
