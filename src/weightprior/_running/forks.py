"""Forked processes, in which JAX cannot compute.

Of a process's threads a fork takes along the one that forked, and JAX's own are gone: whatever it
is asked to compute in the child would wait for them for ever.
"""

import os
import sys

__all__ = ["check_not_forked"]

_used = _forked = False


def check_not_forked() -> None:
    """Raise in a forked process whose parent has used JAX."""
    if _forked:
        raise RuntimeError(
            "weightprior: expected a process of its own; got one forked from a process that has "
            "used JAX, whose threads a fork leaves behind, so that it would wait for ever. Start "
            'processes by multiprocessing.get_context("spawn"), or '
            'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")).'
        )


def _before() -> None:
    # In the parent, whose locks are free or will be.
    global _used
    bridge = sys.modules.get("jax._src.xla_bridge")
    # Where a JAX to come does not tell, it is taken for used.
    _used = bridge is not None and getattr(bridge, "backends_are_initialized", lambda: True)()


def _in_child() -> None:
    global _forked
    _forked = _forked or _used


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before, after_in_child=_in_child)
