"""Compiled tasks that a function of Python calls as often as it likes, such as an optimiser.

If few calls are enough, that saves compiling the function as well.
"""

from collections.abc import Callable, Sequence
from typing import Any

from weightprior._running.interrupts import Held
from weightprior._running.threads import stop_if
from weightprior.fits.programs import Task, compiled, placed
from weightprior.inference._batch import call_each

__all__ = ["prepare", "run"]


def run(
    task: Task,
    static: Any,
    shared: Any,
    items: Sequence[Any],
    drive: Callable[[Callable[[Any], Any], Any], Any],
    given: Any,
    *,
    once: bool = True,
) -> list[Any]:
    """Let a function of Python call a compiled task as often as it likes, for every item.

    Parameters
    ----------
    task, static, shared
        As for `_batch.run`.
    items : sequence of pytrees of arrays
        For every item, the arrays that all of its calls have in common.
    drive : callable
        ``drive(evaluate, item)``, where ``evaluate(given)`` is ``task(static, shared, (item,
        given))``.
    given : array or jax.ShapeDtypeStruct
        Array of the shape that the function passes on.
    once : bool
        True if few calls are expected: the task is then compiled sooner, not made fast.

    Returns
    -------
    list
        Results of the function, in the order of `items`.
    """
    shared = placed(shared)
    program = compiled(task, static, shared, (items[0], given), False, once=once)

    def call(item: Any, held: Held) -> Any:
        common = placed(item)

        def evaluate(given: Any) -> Any:
            stop_if(held)
            return program(shared, (common, given))

        return drive(evaluate, item)

    return call_each((program,), call, items, lambda index: None, False)


def prepare(task: Task, static: Any, shared: Any, item: Any, given: Any) -> None:
    """Begin to compile what `run` will need; the arguments as there."""
    compiled(task, static, shared, (item, given), False, once=True)
