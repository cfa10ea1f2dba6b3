"""Minimise a smooth function of a vector by L-BFGS (optax), inside a compiled program."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["Optimum", "minimise"]

# Curvature pairs kept. Networks' valleys are narrow: 50 take as long as 20 and converge more often.
_MEMORY = 50
# A float stops falling before its gradient vanishes: so many steps without progress end a run.
_PATIENCE = 20
# What a step may raise the function by: the relative error that optax's line search allows for.
_ROUNDING = 1e-6


class Optimum(NamedTuple):
    """Where a minimisation ended.

    Attributes
    ----------
    position : array
        The point.
    value : array of shape ()
        The function there.
    gradient_norm : array of shape ()
        Largest absolute partial derivative there.
    num_iterations : array of shape ()
        Steps taken.
    """

    position: jax.Array
    value: jax.Array
    gradient_norm: jax.Array
    num_iterations: jax.Array


class _State(NamedTuple):
    position: jax.Array
    solver: optax.OptState
    gradient_norm: jax.Array
    best_value: jax.Array
    best_gradient_norm: jax.Array
    num_iterations: jax.Array
    last_progress: jax.Array


def minimise(
    function: Callable[[jax.Array], jax.Array], start: jax.Array, tolerance, max_iterations
) -> Optimum:
    """Minimise from `start` until no partial derivative exceeds `tolerance`.

    The run also ends after `max_iterations` steps, where the function turns NaN, or where the
    precision of its numbers allows no progress; `gradient_norm` says how far it came.
    """
    solver = optax.lbfgs(memory_size=_MEMORY)
    value_and_grad = optax.value_and_grad_from_state(function)

    def step(state: _State) -> _State:
        value, gradient = value_and_grad(state.position, state=state.solver)
        updates, new = solver.update(
            gradient, state.solver, state.position, value=value, grad=gradient, value_fn=function
        )
        moved = (
            optax.apply_updates(state.position, updates),
            new,
            jnp.max(jnp.abs(optax.tree.get(new, "grad"))),
        )
        # A line search that finds nothing lower steps all the same. Such a step is taken back, and
        # the curvature that led there (across a kink, perhaps) is forgotten.
        stayed = (state.position, solver.init(state.position), state.gradient_norm)
        fell = optax.tree.get(new, "value") <= value + _ROUNDING * jnp.abs(value)
        position, new, gradient_norm = jax.tree.map(partial(jnp.where, fell), moved, stayed)
        count = state.num_iterations + 1
        value = optax.tree.get(new, "value")
        progress = (value < state.best_value) | (gradient_norm < state.best_gradient_norm)
        return _State(
            position,
            new,
            gradient_norm,
            jnp.minimum(value, state.best_value),
            jnp.minimum(gradient_norm, state.best_gradient_norm),
            count,
            jnp.where(progress, count, state.last_progress),
        )

    def unfinished(state: _State) -> jax.Array:
        return (
            (state.gradient_norm > tolerance)  # false for NaN
            & (state.num_iterations < max_iterations)
            & (state.num_iterations - state.last_progress < _PATIENCE)
        )

    infinity, zero = jnp.asarray(jnp.inf, start.dtype), jnp.zeros((), jnp.int32)
    first = _State(start, solver.init(start), infinity, infinity, infinity, zero, zero)
    last = jax.lax.while_loop(unfinished, step, first)
    value, gradient = jax.value_and_grad(function)(last.position)
    return Optimum(last.position, value, jnp.max(jnp.abs(gradient)), last.num_iterations)
