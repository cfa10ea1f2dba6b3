"""Fits of many data sets, submitted ahead of their use if the fit function can do so."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any

import xarray as xr

__all__ = ["fits_ahead"]

# Fits submitted at a time: enough for a cluster, few enough to hold in memory.
_MAX_AHEAD = 64


def fits_ahead(
    fit: Callable[..., xr.DataTree], calls: Iterable[tuple[tuple[Any, ...], dict[str, Any]]]
) -> Generator[Callable[[], xr.DataTree]]:
    """Yield, for each call in order, a function that returns its fit.

    Parameters
    ----------
    fit : callable
        A fit function. If it has a method `submit`, as those of `distribute` do, up to 64 calls are
        submitted before the first is waited for. Otherwise each call runs when its fit is needed.
    calls : iterable of (tuple, dict)
        Arguments and options.
    """
    submit = _submit_of(fit)
    if submit is None:
        yield from (partial(fit, *args, **options) for args, options in calls)
        return
    left, ahead = iter(calls), deque()
    try:
        while True:
            while len(ahead) < _MAX_AHEAD and (call := next(left, None)) is not None:
                args, options = call
                ahead.append(submit(*args, **options))
            if not ahead:
                return
            yield ahead.popleft().result
    finally:
        for pending in ahead:
            pending.cancel()


def _submit_of(fit: Any) -> Callable[..., Any] | None:
    """Return the method `submit` of a function, with the options that a partial adds."""
    if isinstance(fit, partial):
        submit = _submit_of(fit.func)
        return None if submit is None else partial(submit, *fit.args, **fit.keywords)
    return getattr(fit, "submit", None)
