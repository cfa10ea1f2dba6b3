"""Progress of long calls, shown in a terminal or a notebook.

A public function that may take more than two seconds is decorated by `shows_progress`. Code inside
it counts its work, if there is any to count, and says when it waits for a compiler. A thread draws
once a second, so that the clock continues while nothing else moves.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from tqdm.auto import tqdm

from weightprior._running.interrupts import held_back

__all__ = ["Count", "compiling", "counting", "hidden", "shows_progress"]

# Seconds before the first drawing, and between two drawings.
_DELAY, _TICK = 2.0, 1.0


@dataclass
class Count:
    """Work that is counted while it is done.

    Attributes
    ----------
    total, unit, done
        Amount of work, its unit, and how much of it is done; no total if nothing is counted.
    doing, beside : str
        Current step, and anything else to tell.
    """

    total: int | None = None
    unit: str = "it"
    done: int = 0
    doing: str = ""
    beside: str = ""

    def advance(self, number: int = 1) -> None:
        """Count some more."""
        self.done += number


class _Bar(tqdm):
    """A bar that its own thread refreshes, and no monitor of tqdm."""

    monitor_interval = 0


class _Progress:
    """State of one call that is shown; only its own thread draws it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count, self.counts, self.compiles, self.hidden = Count(), False, 0, False
        self._began, self._ended = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._draw_until_ended, daemon=True)
        self._drawn: Count | None = None

    def begin(self) -> None:
        """Begin to draw, if it takes long."""
        self._thread.start()

    def end(self) -> None:
        """Draw for the last time, if anything was drawn."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _draw_until_ended(self) -> None:
        if self._ended.wait(_DELAY) or self.hidden:
            return
        # A delay: otherwise it would draw before it has anything to draw.
        with _Bar(delay=_DELAY, dynamic_ncols=True, disable=False) as bar:
            bar.delay = 0.0
            while True:
                self._draw(bar)
                if self._ended.wait(_TICK):
                    break
            self._sum_up(bar)

    def _sum_up(self, bar: tqdm) -> None:
        count, clock = self.count, bar.format_interval(time.monotonic() - self._began)
        done = "" if count.total is None else f": {count.done}/{count.total} {count.unit.strip()}"
        beside = f", {count.beside}" if count.beside else ""
        bar.set_description_str(f"{self.name}{done} [{clock}]{beside}", refresh=False)
        bar.bar_format = "{desc}"

    def _draw(self, bar: tqdm) -> None:
        count = self.count
        # With nothing done yet, only the clock is shown.
        if self.compiles or count.total is None or (count.done == 0 and count is not self._drawn):
            doing = "compiling" if self.compiles else count.doing
            clock = bar.format_interval(time.monotonic() - self._began)
            bar.set_description_str(f"{self.name} {doing}".rstrip() + f" [{clock}]", refresh=False)
            bar.bar_format = "{desc}"
        else:
            bar.set_description_str(f"{self.name} {count.doing}".rstrip(), refresh=False)
            bar.bar_format = None
            if count is not self._drawn:  # counted from here, so that the rate is right
                self._drawn = count
                bar.unit, bar.initial, bar.postfix = count.unit, 0, None
                bar.reset(count.total)
                bar.initial = bar.n = bar.last_print_n = count.done
            bar.set_postfix_str(count.beside, refresh=False)
            bar.update(count.done - bar.n)
        bar.refresh()


class _Here(threading.local):
    """The call under way in this thread, if it is one that shows anything."""

    progress: _Progress | None = None


_here = _Here()


def shows_progress[**Given, Answer](
    function: Callable[Given, Answer],
) -> Callable[Given, Answer]:
    """Make a function show its progress, unless it runs inside another that does.

    Its option `progress_bar` can forbid this.
    """

    @wraps(function)
    def shown(*args: Given.args, **options: Given.kwargs) -> Answer:
        forbidden = options.get("progress_bar", True) is False
        if _here.progress is not None:
            # A part that forbids progress shows none, unless the outer call counts its own work.
            _here.progress.hidden |= forbidden and not _here.progress.counts
            return function(*args, **options)
        if forbidden or not _is_seen():
            return function(*args, **options)
        progress = _Progress(function.__name__)
        try:
            with held_back():
                _here.progress = progress
                progress.begin()
            return function(*args, **options)
        finally:
            with held_back():
                _here.progress = None
                progress.end()

    return shown


@contextmanager
def hidden() -> Iterator[None]:
    """Show no progress of the block in this thread."""
    before, _here.progress = _here.progress, _Progress("")  # it never begins to draw
    try:
        yield
    finally:
        _here.progress = before


@contextmanager
def counting(
    total: int | None, unit: str = "it", *, doing: str = "", done: int = 0
) -> Iterator[Count]:
    """Count the work of a block; counts inside another count are not shown.

    Without a total, only the current step and the clock are shown.
    """
    count, progress = Count(total, unit, done, doing), _here.progress
    if progress is None or progress.counts:
        yield count
        return
    before = progress.count
    progress.count, progress.counts = count, total is not None
    try:
        yield count
    finally:
        progress.counts = False
        if before.total is not None:  # the outer count says more once this one is over
            progress.count = before


@contextmanager
def compiling() -> Iterator[None]:
    """Say that the block waits for a compiler."""
    progress = _here.progress
    if progress is None:
        yield
        return
    progress.compiles += 1
    try:
        yield
    finally:
        progress.compiles -= 1


def _is_seen() -> bool:
    """Tell if the drawing can be seen: in a terminal, or in a notebook."""
    # A notebook's stream says that it is no terminal.
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is not None:
        return True
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False
