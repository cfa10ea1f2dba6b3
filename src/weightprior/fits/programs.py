"""Compiled programs, cached by task and shapes; tracing, which one thread does at a time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from weightprior import _checks
from weightprior._running.interrupts import held_back
from weightprior._running.progress import compiling
from weightprior.model.blocks import divided

__all__ = ["Program", "Task", "clear_programs", "compiled", "like", "placed", "tracing"]

Task = Callable[[Any, Any, Any], Any]
# Held while any thread traces a program: NumPyro's handlers are one stack for the whole process.
# Threads run compiled programs only. A thread that holds the lock waits for no other thread, so
# there is no deadlock.
tracing = threading.RLock()
# Number of compiled programs that are kept: those of a dozen models and shapes of data.
_MAX_PROGRAMS = 128
# Number of items that an accelerator computes side by side.
_LANES = 64

# Options of XLA's compiler for CPUs. Without optimisation, compiling takes two thirds of the time.
_SOON = {"xla_backend_optimization_level": 0}


class Program(NamedTuple):
    """A program that is compiled, or about to be: a call waits for that.

    Attributes
    ----------
    executable : Future
        Future of the compiled program.
    returns : pytree of jax.ShapeDtypeStruct
        Shapes and dtypes that it returns.
    on_devices : bool
        True if it takes several devices, so that no other may run beside it.
    """

    executable: Future
    returns: Any
    on_devices: bool = False

    def wait(self) -> None:
        """Wait until it is compiled."""
        if not self.executable.done():
            with compiling():
                self.executable.result()

    def __call__(self, *args: Any) -> Any:
        """Run it, once it is compiled."""
        try:
            executable = self.executable.result()
        except Exception:  # such as too little memory, which the next call may not meet
            clear_programs()
            raise
        with jax.disable_jit(False):  # users may debug without jit, but our programs are compiled
            return executable(*args)


def compiled(
    task: Task, static: Any, shared: Any, item: Any, together: bool, *, once: bool = False
) -> Program:
    """Compile a task, once for all calls of its shapes; for many items at once if `together`.

    A task that runs `once` for an item, and briefly, is compiled quickly instead of optimised.

    An interrupt waits for the end of tracing, which must not stop halfway.
    """
    _checks.not_forked()
    leaves, structure = jax.tree.flatten((shared, item))
    kinds = tuple(_kind(leaf) for leaf in leaves)
    with held_back(), tracing, compiling():
        how = together, once, jax.config.jax_enable_x64
        return _compile_once(task, *how, static, structure, kinds)


def _sharding(leaf: Any) -> NamedSharding | None:
    found = getattr(leaf, "sharding", None)
    divided = isinstance(found, NamedSharding) and not found.is_fully_replicated
    return found if divided else None


def _kind(leaf: Any) -> tuple[tuple[int, ...], Any, NamedSharding | None]:
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):  # an array keeps its own precision
        return leaf.shape, leaf.dtype, _sharding(leaf)
    return np.shape(leaf), jnp.result_type(leaf), None


def _struct(kind: tuple[Any, ...], mesh: Mesh | None) -> jax.ShapeDtypeStruct:
    shape, dtype, sharding = kind
    if mesh is not None and sharding is None:
        sharding = NamedSharding(mesh, PartitionSpec())  # all of it on every device
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


@lru_cache(maxsize=_MAX_PROGRAMS)
def _compile_once(
    task: Task, together: bool, once: bool, precision: bool, static: Any, structure, kinds
) -> Program:
    mesh = next((kind[2].mesh for kind in kinds if kind[2] is not None), None)
    shared, item = jax.tree.unflatten(structure, [_struct(kind, mesh) for kind in kinds])
    program = _vmapped(task) if together else task
    everywhere = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    jitted = jax.jit(program, static_argnums=0, out_shardings=everywhere)
    # The mesh replaces one that a user may have set.
    in_mesh = nullcontext() if mesh is None else jax.set_mesh(mesh)
    with jax.disable_jit(False), in_mesh, divided(1 if mesh is None else mesh.size):
        lowered = jitted.lower(static, shared, item)

    soon = once and jax.default_backend() == "cpu"
    options: Any = {"compiler_options": _SOON} if soon else {}

    def compile_lowered():
        with jax.enable_x64(precision):  # the setting is per thread
            return lowered.compile(**options)

    # A thread of its own, so that the programs of a fit compile side by side.
    pool = ThreadPoolExecutor(1)
    executable = pool.submit(compile_lowered)
    pool.shutdown(wait=False)
    return Program(executable, lowered.out_info, mesh is not None)


def placed(tree: Any) -> Any:
    """Place arrays on the device, once for all calls; those of JAX stay where they are."""
    return jax.tree.map(lambda a: a if isinstance(a, jax.Array) else jax.device_put(a), tree)


def like(item: Any, lead: tuple[int, ...]) -> Any:
    """Return the shapes and dtypes of an item, with further axes in front."""
    kinds = jax.tree.map(lambda leaf: _struct(_kind(leaf), None), item)
    return jax.tree.map(lambda kind: kind.update(shape=(*lead, *kind.shape)), kinds)


def _vmapped(task: Task) -> Task:
    """Make a task of many items, with so few run at once that their blocks fit into memory."""
    return lambda static, shared, item: jax.lax.map(
        lambda i: task(static, shared, i), item, batch_size=_LANES
    )


def clear_programs() -> None:
    """Drop all compiled programs, which hold memory and memory maps."""
    _compile_once.cache_clear()
