"""Minimise a smooth function of a vector by L-BFGS, inside a compiled program.

The functions are so cheap that what surrounds them decides: a step of this costs half as much as
one of optax's solver, whose line search also asks for more than a kink of relu units can give.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightprior.inference._optima.lbfgs import Memory, init, inverse_hessian_product, update

__all__ = ["Optimum", "minimise", "minimise_whitened"]

# Curvature pairs kept.
_MEMORY = 50
# A float stops falling before its gradient vanishes: so many steps without progress end a run.
_PATIENCE = 20
# Weak Wolfe conditions: shares of the slope that a step has to fall by and to flatten to.
_FALL, _FLATTEN = 1e-4, 0.9
# Relative error of the function, within which its slope decides whether a step fell.
_RELATIVE_ROUNDING = 1e-6
_MAX_TRIALS = 20
# Steps before the curvature is looked at, and in each round after that.
_PLAIN_STEPS = 300
_WHITENED_STEPS = 50


class Optimum(NamedTuple):
    """End of a minimisation.

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


class _Point(NamedTuple):
    position: jax.Array
    value: jax.Array
    gradient: jax.Array


class _State(NamedTuple):
    point: _Point
    memory: Memory
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

    def evaluate(position: jax.Array) -> _Point:
        return _Point(position, *jax.value_and_grad(function)(position))

    def step(state: _State) -> _State:
        before = state.point
        found, lower = _search(
            evaluate, before, -inverse_hessian_product(state.memory, before.gradient)
        )
        point = jax.tree.map(partial(jnp.where, found), lower, before)
        # Where there is nothing lower this is no pair, and the curvature that led here (across a
        # kink, perhaps) is forgotten.
        memory = update(
            state.memory,
            point.position - before.position,
            point.gradient - before.gradient,
        )
        norm, count = _norm(point.gradient), state.num_iterations + 1
        progress = (point.value < state.best_value) | (norm < state.best_gradient_norm)
        return _State(
            point,
            memory,
            jnp.minimum(point.value, state.best_value),
            jnp.minimum(norm, state.best_gradient_norm),
            count,
            jnp.where(progress, count, state.last_progress),
        )

    def unfinished(state: _State) -> jax.Array:
        return (
            (_norm(state.point.gradient) > tolerance)  # false for NaN
            & (state.num_iterations < max_iterations)
            & (state.num_iterations - state.last_progress < _PATIENCE)
        )

    point, zero = evaluate(start), jnp.zeros((), jnp.int32)
    norm = _norm(point.gradient)
    first = _State(point, init(_MEMORY, start), point.value, norm, zero, zero)
    last = jax.lax.while_loop(unfinished, step, first)
    norm = _norm(last.point.gradient)
    return Optimum(last.point.position, last.point.value, norm, last.num_iterations)


class _Trial(NamedTuple):
    size: jax.Array
    low: jax.Array
    high: jax.Array
    point: _Point
    found: jax.Array
    num_trials: jax.Array


def _search(evaluate, start: _Point, direction: jax.Array) -> tuple[jax.Array, _Point]:
    """Find a step that meets the weak Wolfe conditions, by doubling and bisection.

    A. S. Lewis and M. L. Overton, Nonsmooth optimization via quasi-Newton methods, 2013.
    doi:10.1007/s10107-012-0514-2. Where the function's rounding hides the fall, the slope shows it:
    W. W. Hager and H. Zhang, 2006, doi:10.1145/1132973.1132979.
    """
    slope = jnp.vdot(start.gradient, direction)

    def attempt(trial: _Trial) -> _Trial:
        point = evaluate(start.position + trial.size * direction)
        slope_there = jnp.vdot(point.gradient, direction)
        fell = point.value <= start.value + _FALL * trial.size * slope
        level = point.value <= start.value + _RELATIVE_ROUNDING * jnp.abs(start.value)
        fell |= level & (slope_there <= (2 * _FALL - 1) * slope)
        low = jnp.where(fell, trial.size, trial.low)
        high = jnp.where(fell, trial.high, trial.size)
        size = jnp.where(jnp.isinf(high), 2 * low, (low + high) / 2)
        found = fell & (slope_there >= _FLATTEN * slope)
        return _Trial(size, low, high, point, found, trial.num_trials + 1)

    def unfinished(trial: _Trial) -> jax.Array:
        return ~trial.found & (trial.num_trials < _MAX_TRIALS)

    one = jnp.ones_like(slope)
    first = _Trial(one, 0 * one, jnp.inf * one, start, jnp.asarray(False), jnp.zeros((), jnp.int32))
    last = jax.lax.while_loop(unfinished, attempt, first)
    return last.found, last.point


def _norm(gradient: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(gradient))


class _Round(NamedTuple):
    optimum: Optimum
    number: jax.Array
    goes_on: jax.Array


def minimise_whitened(
    function: Callable[[jax.Array], jax.Array],
    precision: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    tolerance,
    max_iterations,
    plain_steps,
    hopeless: Callable[[jax.Array], Any] = lambda position: False,
) -> Optimum:
    """Minimise like `minimise`, with the help of a matrix where that alone takes long.

    Narrow valleys cost L-BFGS thousands of steps. So after some hundred it goes on in rounds, each
    in coordinates in which the matrix is the identity where the round begins.

    Parameters
    ----------
    function, start, tolerance, max_iterations
        As for `minimise`.
    precision : callable
        A positive definite matrix that resembles the Hessian at a position.
    plain_steps
        Steps of a first round without the matrix; 0 for none.
    hopeless : callable
        Whether no optimum can be met from a position; asked after each round.
    """

    def advance(state: _Round) -> _Round:
        before, whitened = state.optimum, state.number > 0
        transform, stretch = jax.lax.cond(
            whitened, lambda z: _whitening(precision(z)), _no_whitening, before.position
        )

        def at(move: jax.Array) -> jax.Array:
            return before.position + jax.lax.cond(
                whitened, lambda m: transform @ m, lambda m: m, move
            )

        near = minimise(
            lambda move: function(at(move)),
            jnp.zeros_like(before.position),
            tolerance / stretch,
            jnp.minimum(
                jnp.where(whitened, _WHITENED_STEPS, plain_steps),
                max_iterations - before.num_iterations,
            ),
        )
        position = at(near.position)
        value, gradient = jax.value_and_grad(function)(position)
        count = before.num_iterations + near.num_iterations
        after = Optimum(position, value, _norm(gradient), count)
        better = (value < before.value) | (after.gradient_norm < before.gradient_norm)
        goes_on = (better | ~whitened) & ~jnp.asarray(hopeless(position))
        return _Round(after, state.number + 1, goes_on)

    def unfinished(state: _Round) -> jax.Array:
        return (
            (state.optimum.gradient_norm > tolerance)  # false for NaN
            & (state.optimum.num_iterations < max_iterations)
            & state.goes_on
        )

    infinity, zero = jnp.asarray(jnp.inf, start.dtype), jnp.zeros((), jnp.int32)
    first = _Round(
        Optimum(start, infinity, infinity, zero),
        jnp.where(plain_steps > 0, 0, 1),
        jnp.asarray(True),
    )
    return jax.lax.while_loop(unfinished, advance, first).optimum


def _whitening(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Map from moves to changes of position, and how much longer a gradient can be there."""
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    root = jnp.linalg.cholesky(matrix)
    inverse = jax.scipy.linalg.solve_triangular(root, identity, lower=True)
    stretch = jnp.max(jnp.linalg.norm(root, axis=1))
    usable = jnp.all(jnp.isfinite(inverse))
    return jnp.where(usable, inverse.T, identity), jnp.where(usable, stretch, 1.0)


def _no_whitening(position: jax.Array) -> tuple[jax.Array, jax.Array]:
    size, dtype = position.size, position.dtype
    return jnp.zeros((size, size), dtype), jnp.ones((), dtype)
