"""Batches of independent tasks: priors, restarts and chains, each on its own core.

On a CPU a batched program is slower than a loop over its parts (two to five times more per
gradient). So one compiled program for a single task is called from as many threads as there are
cores. JAX releases Python's lock while it computes. On an accelerator the tasks are vmapped. In
both cases the program depends only on the shapes of one task: another prior, data set or number of
tasks compiles nothing.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weightprior import _arrays
from weightprior._running.interrupts import Held, held_back
from weightprior._running.threads import call_in_threads, stop_if
from weightprior.fits.programs import Program, Task, compiled, like, placed
from weightprior.inference._blas import one_blas_thread

__all__ = ["Pace", "Steps", "call_each", "is_alone", "prepare", "prepare_steps", "run", "run_steps"]

# For tasks that take many calls: seconds that a call should take, and steps of the first call.
_CALL_SECONDS, _FIRST_STEPS = 0.5, 10


class Steps(NamedTuple):
    """Some steps of a task that takes many, as a program returns them.

    Attributes
    ----------
    state : pytree of arrays
        Current state of the task.
    num_steps : array of shape ()
        Number of steps taken.
    ended : array of shape ()
        True if there are no more to take.
    result : pytree of arrays
        Result of the task, once it has ended.
    renewable : array of shape ()
        True if more steps can be taken from the state that `renew` makes from this one.
    """

    state: Any
    num_steps: Any
    ended: Any
    result: Any
    renewable: Any = False


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
        A module-level function (it is part of the cache's key) from pytrees of arrays to a pytree.
    static : hashable
        Options that are compiled in.
    shared : pytree of arrays
        Arrays that all tasks have in common.
    items : sequence of pytrees of arrays
        One per task, of equal shapes.
    on_done : callable, optional
        Called on this thread with the index of each task that has ended.
    vectorise : bool, optional
        If true, vmap; by default if the backend is not a CPU.

    Returns
    -------
    list of pytrees of numpy arrays
        In the order of `items`.
    """
    shared, items = placed(shared), _arrays.own(items)
    together = _on_accelerator() if vectorise is None else vectorise
    program = compiled(task, static, shared, like(items[0], _lead(items, together)), together)
    return call_each((program,), lambda item, held: program(shared, item), items, on_done, together)


def run_steps(
    begin: Task,
    advance: Task,
    static: Any,
    shared: Any,
    items: Sequence[Any],
    *,
    renew: Task | None = None,
    on_done: Callable[[int], Any] = lambda index: None,
    vectorise: bool | None = None,
) -> list[Any]:
    """Compute tasks of many steps, in calls short enough to answer interrupts between them.

    Parameters
    ----------
    begin : callable
        As the task of `run`; returns the first state of an item.
    advance : callable
        A task with items ``(item, state, num_steps)``. It returns `Steps`, at most `num_steps` of
        them. The cuts between calls do not change the results.
    renew : callable, optional
        A task with items ``(item, state)``. If an ended task is renewable, it returns the state
        from which the task continues. Otherwise it returns the same state. It is compiled when it
        is first needed.
    static, shared, items, on_done, vectorise
        As for `run`.

    Returns
    -------
    list of pytrees of numpy arrays
        The results, in the order of `items`.
    """
    shared, items = placed(shared), _arrays.own(items)
    together = _on_accelerator() if vectorise is None else vectorise
    lead = _lead(items, together)
    begun, moved = _compile_steps(begin, advance, static, shared, items[0], lead, together)
    pace = Pace()

    def steps(item: Any, state: Any, held: Held) -> Steps:
        while True:
            stop_if(held)
            num_steps, clock = np.full(lead, pace.num_steps, np.int32), time.perf_counter()
            after: Steps = moved(shared, (item, state, num_steps))
            ended = np.asarray(after.ended)  # waits for it; on a JAX array, `all` would be compiled
            pace.learn(int(np.max(np.asarray(after.num_steps))), time.perf_counter() - clock)
            if ended.all():
                return after
            state = after.state

    def call(item: Any, held: Held) -> Any:
        after = steps(item, begun(shared, item), held)
        while renew is not None and np.asarray(after.renewable).any():
            given = item, after.state
            renewed = compiled(renew, static, shared, given, together)
            after = steps(item, renewed(shared, given), held)
        return after.result

    return call_each((begun, moved), call, items, on_done, together)


def prepare(task: Task, static: Any, shared: Any, item: Any, num_items: int) -> Any:
    """Begin to compile what `run` needs, in a thread of its own.

    Parameters
    ----------
    task, static, shared
        As for `run`.
    item : pytree of arrays or jax.ShapeDtypeStruct
        One of the items.
    num_items : int
        Number of items that there will be.

    Returns
    -------
    pytree of jax.ShapeDtypeStruct
        Shapes and dtypes of a result per item, to prepare later steps.
    """
    together = _on_accelerator()
    lead = (num_items,) if together else ()
    returns = compiled(task, static, shared, like(item, lead), together).returns
    return _one_of(returns, lead)


def prepare_steps(
    begin: Task, advance: Task, static: Any, shared: Any, item: Any, num_items: int
) -> Any:
    """Begin to compile what `run_steps` needs; arguments and returned value as for `prepare`."""
    together = _on_accelerator()
    lead = (num_items,) if together else ()
    programs = _compile_steps(begin, advance, static, shared, item, lead, together)
    return _one_of(programs[1].returns.result, lead)


class Pace:
    """Number of steps that fit into one call, learned from the times of earlier calls."""

    def __init__(self) -> None:
        self.num_steps = _FIRST_STEPS

    @contextmanager
    def measured(self, num_steps: int) -> Iterator[None]:
        """Measure the time of the block, which takes `num_steps` steps."""
        clock = time.perf_counter()
        yield
        self.learn(num_steps, time.perf_counter() - clock)

    def learn(self, num_steps: int, seconds: float) -> None:
        """Learn from the time that `num_steps` steps took."""
        if num_steps and is_alone():
            most = np.iinfo(np.int32).max
            self.num_steps = int(np.clip(num_steps * _CALL_SECONDS / seconds, 1, most))


def is_alone() -> bool:
    """Tell if no other process takes part, so that this one may choose the length of calls.

    Processes that sum over each other's rows must make the same calls in the same order.
    """
    return jax.process_count() == 1


def _on_accelerator() -> bool:
    return jax.default_backend() != "cpu"


def call_each(
    programs: Sequence[Program],
    call: Callable[[Any, Held], Any],
    items: Sequence[Any],
    on_done: Callable[[int], Any],
    together: bool,
) -> list[Any]:
    """Call compiled programs for every item, or until an interrupt comes."""
    with held_back() as held, one_blas_thread():
        for program in programs:
            program.wait()
            held.release()
        if not together:
            alone = any(program.on_devices for program in programs)
            return call_in_threads(
                lambda item: _to_host(call(item, held)), items, held, on_done, one_by_one=alone
            )
        result = _to_host(call(jax.tree.map(lambda *leaves: jnp.stack(leaves), *items), held))
        for index in range(len(items)):
            on_done(index)
        return [jax.tree.map(lambda leaf, i=i: leaf[i], result) for i in range(len(items))]


def _lead(items: Sequence[Any], together: bool) -> tuple[int, ...]:
    """Return the axes that the program has in front of an item's."""
    return (len(items),) if together else ()


def _one_of(returns: Any, lead: tuple[int, ...]) -> Any:
    return jax.tree.map(lambda kind: kind.update(shape=kind.shape[len(lead) :]), returns)


def _compile_steps(
    begin, advance, static, shared, item, lead, together: bool
) -> tuple[Program, Program]:
    given = like(item, lead)
    begun = compiled(begin, static, shared, given, together, once=True)
    steps = given, begun.returns, jax.ShapeDtypeStruct(lead, np.int32)
    return begun, compiled(advance, static, shared, steps, together)


def _to_host(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf if _is_key(leaf) else np.asarray(leaf), tree)


def _is_key(leaf: Any) -> bool:
    """Tell if an array holds random keys, which have no numpy form and stay as they are."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
