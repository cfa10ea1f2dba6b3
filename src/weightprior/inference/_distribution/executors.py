"""The executor to which parts are submitted, made again if it broke and that is possible."""

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

__all__ = ["Supply"]


class Supply:
    """An executor that a user passed, or that a user's function makes.

    Parameters
    ----------
    executor : Executor or callable
        As a user passed it.

    Raises
    ------
    TypeError, ValueError
        If it is neither, or forks its processes.
    """

    def __init__(self, executor: Any) -> None:
        self._make: Callable[[], Any] | None = None
        self._executor: Executor | None = None
        if isinstance(executor, Executor):
            self._executor = _checked(executor)
        elif callable(executor) and not hasattr(executor, "submit"):
            self._make = executor
        else:
            raise _not_one(executor)

    @property
    def renewable(self) -> bool:
        """True if another can be made."""
        return self._make is not None

    def open(self) -> Executor:
        """Return the executor; make one if there is none yet."""
        if self._executor is None:
            assert self._make is not None
            self._executor = _checked(self._make())
        return self._executor

    def renew(self, broken: Executor | None) -> None:
        """Drop an executor that broke, so that another is made; another call may have done so."""
        if broken is not None and broken is self._executor:
            self._executor = None
            broken.shutdown(wait=False)


def _checked(executor: Any) -> Executor:
    if not isinstance(executor, Executor):
        raise _not_one(executor)
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            "executor: expected processes that are spawned; got some that are forked, which would "
            "wait for ever: a fork keeps only one thread, and JAX has several. Pass "
            'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")).'
        )
    return executor


def _not_one(executor: Any) -> TypeError:
    if hasattr(executor, "get_executor"):
        advice = "Pass its get_executor()."
    else:
        advice = "Pass one, or a function without arguments that makes one."
    return TypeError(
        f"executor: expected a concurrent.futures.Executor; got {type(executor).__name__}. {advice}"
    )
