"""Compiled tasks that a Python function, such as an optimiser, calls any number of times.

If few calls are enough, this saves compiling the function as well.
"""

from collections.abc import Callable, Sequence
from typing import Any

from weightprior._running.interrupts import Held
from weightprior._running.threads import stop_if
from weightprior.fits.programs import Program, Task, compiled, placed
from weightprior.inference._batch import call_each

__all__ = ["prepare", "run"]


def run(
    task: Task,
    static: Any,
    shared: Any,
    items: Sequence[Any],
    drive: Callable[[Callable[..., Any], Any], Any],
    given: Any,
    *,
    once: bool = True,
) -> list[Any]:
    """Let a Python function call a compiled task any number of times, for every item.

    Parameters
    ----------
    task, static, shared
        As for `_batch.run`.
    items : sequence of pytrees of arrays
        For every item, the arrays that all its calls share.
    drive : callable
        ``drive(evaluate, item)``. Here ``evaluate(given)`` is ``task(static, shared, (item,
        given))``, or that of another program passed to it; an interrupt ends either.
    given : array or jax.ShapeDtypeStruct
        Array with the shape of those that the function passes to ``evaluate``.
    once : bool
        True if few calls are expected: the task is then compiled quickly, not optimised.

    Returns
    -------
    list
        Results of the function, in the order of `items`.
    """
    shared = placed(shared)
    program = compiled(task, static, shared, (items[0], given), False, once=once)

    def call(item: Any, held: Held) -> Any:
        common = placed(item)

        def evaluate(given: Any, run: Program = program) -> Any:
            stop_if(held)
            return run(shared, (common, given))

        return drive(evaluate, item)

    return call_each((program,), call, items, lambda index: None, False)


def prepare(task: Task, static: Any, shared: Any, item: Any, given: Any) -> None:
    """Begin to compile what `run` needs; the arguments as there."""
    compiled(task, static, shared, (item, given), False, once=True)
