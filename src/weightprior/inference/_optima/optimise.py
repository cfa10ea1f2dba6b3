"""Minimisation of a smooth function of a vector by L-BFGS, inside a compiled program.

The functions are so cheap that the overhead matters: a step costs half as much as one of optax's
solver. The line search of that solver also requires more than is possible at a kink of relu units.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from weightprior.inference._optima.lbfgs import Memory, direction, init, update

__all__ = [
    "Descent",
    "Downhill",
    "Point",
    "Trial",
    "begin",
    "descend",
    "downhill_from",
    "first_trial",
    "is_open",
    "judge",
    "largest",
    "place_of",
    "resume",
    "take",
    "unfinished",
]

# Curvature pairs kept.
_MEMORY = 50
# A float stops falling before its gradient vanishes: this many steps without progress end a run.
_PATIENCE = 20
# Weak Wolfe conditions: shares of the slope by which a step must fall, and to which it must
# flatten.
_FALL, _FLATTEN = 1e-4, 0.9
# Relative error of the function; within it the slope decides if a step fell.
_RELATIVE_ROUNDING = 1e-6
_MAX_TRIALS = 20


class Point(NamedTuple):
    """A position, the function there, and its gradient."""

    position: jax.Array
    value: jax.Array
    gradient: jax.Array


class Descent(NamedTuple):
    """A minimisation under way.

    Attributes
    ----------
    point : Point
        Current position, value and gradient.
    preconditioned : array of shape (size,)
        The gradient times the preconditioner.
    memory : Memory
        Curvature seen on the way.
    best_value, best_gradient_norm : array of shape ()
        The least values so far.
    num_iterations, last_progress : array of shape ()
        Number of steps taken, and that at the last fall of one of these values; -1 before the start
        has been evaluated.
    """

    point: Point
    preconditioned: jax.Array
    memory: Memory
    best_value: jax.Array
    best_gradient_norm: jax.Array
    num_iterations: jax.Array
    last_progress: jax.Array


def begin(start: jax.Array) -> Descent:
    """Return a descent before its first step, which has no length: it evaluates the start.

    So only the program of the steps contains the function, and it is compiled once.
    """
    nothing, infinity = jnp.zeros_like(start), jnp.asarray(jnp.inf, start.dtype)
    return _unmoved(Point(start, infinity, nothing), nothing, infinity, -1)


def resume(point: Point, preconditioned: jax.Array) -> Descent:
    """Return a descent from an evaluated point, with its newly preconditioned gradient."""
    return _unmoved(point, preconditioned, largest(point.gradient), 0)


def _unmoved(point: Point, preconditioned: jax.Array, norm: jax.Array, count: int) -> Descent:
    memory, number = init(_MEMORY, point.position), jnp.asarray(count, jnp.int32)
    return Descent(point, preconditioned, memory, point.value, norm, number, number)


def unfinished(state: Descent, tolerance, max_iterations) -> jax.Array:
    """Tell if there is another step to take.

    A descent ends if no partial derivative exceeds `tolerance`, after `max_iterations` steps, if
    the function turns NaN, or if the precision of its numbers allows no progress.
    """
    return (state.num_iterations < 0) | (
        (largest(state.point.gradient) > tolerance)  # false for NaN
        & (state.num_iterations < max_iterations)
        & (state.num_iterations - state.last_progress < _PATIENCE)
    )


def descend(
    function: Callable[[jax.Array], jax.Array],
    state: Descent,
    tolerance,
    max_iterations,
    num_steps,
    precondition: Callable[[jax.Array], jax.Array] = lambda gradient: gradient,
) -> Descent:
    """Take a descent `num_steps` further, or to its end.

    Parameters
    ----------
    function : callable
        Function to minimise.
    state : Descent
        Not finished.
    tolerance, max_iterations
        As for `unfinished`.
    num_steps : array of shape ()
        Largest number of steps to take now.
    precondition : callable, optional
        The product of a gradient with a positive definite matrix that resembles the inverse
        Hessian; the identity by default.
    """

    def step(state: Descent) -> Descent:
        downhill = downhill_from(state)

        def attempt(trial: Trial) -> Trial:
            place = place_of(trial, state, downhill)
            return judge(trial, state, downhill, _evaluate(function, place))

        return take(
            state, jax.lax.while_loop(is_open, attempt, first_trial(state, downhill)), precondition
        )

    first = state.num_iterations
    return jax.lax.while_loop(
        lambda state: (
            unfinished(state, tolerance, max_iterations)
            & (state.num_iterations - first < num_steps)
        ),
        step,
        state,
    )


class Downhill(NamedTuple):
    """A direction, and the slope of the function along it."""

    direction: jax.Array
    slope: jax.Array


class Trial(NamedTuple):
    """A search along a direction for a step that meets the weak Wolfe conditions.

    It doubles steps that are too short. Between a step that is too short and one that is too long,
    it bisects: A. S. Lewis and M. L. Overton, Nonsmooth optimization via quasi-Newton methods,
    2013. doi:10.1007/s10107-012-0514-2. If the function's rounding hides the fall, the slope shows
    it: W. W. Hager and H. Zhang, 2006, doi:10.1145/1132973.1132979.

    Attributes
    ----------
    size, low, high : array of shape ()
        The step to try next, one that was too short, and one that was too long.
    point : Point
        Point at the last trial.
    found : array of shape ()
        True if it meets the conditions.
    num_trials : array of shape ()
        Number of steps tried.
    """

    size: jax.Array
    low: jax.Array
    high: jax.Array
    point: Point
    found: jax.Array
    num_trials: jax.Array


def downhill_from(state: Descent) -> Downhill:
    """Return the direction of the next step of a descent."""
    return Downhill(*direction(state.memory, state.point.gradient, state.preconditioned))


def first_trial(state: Descent, downhill: Downhill) -> Trial:
    """Begin a search along a direction; its first step is the whole direction."""
    one, zero = jnp.ones_like(downhill.slope), jnp.zeros((), jnp.int32)
    return Trial(one, 0 * one, jnp.inf * one, state.point, jnp.asarray(False), zero)


def place_of(trial: Trial, state: Descent, downhill: Downhill) -> jax.Array:
    """Return the position at which a search needs the function."""
    return state.point.position + trial.size * downhill.direction


def judge(trial: Trial, state: Descent, downhill: Downhill, point: Point) -> Trial:
    """Update a search with the function at the position that it asked for."""
    start, (along, slope) = state.point, downhill
    slope_there = jnp.vdot(point.gradient, along)
    fell = point.value <= start.value + _FALL * trial.size * slope
    level = point.value <= start.value + _RELATIVE_ROUNDING * jnp.abs(start.value)
    fell |= level & (slope_there <= (2 * _FALL - 1) * slope)
    low = jnp.where(fell, trial.size, trial.low)
    high = jnp.where(fell, trial.high, trial.size)
    size = jnp.where(jnp.isinf(high), 2 * low, (low + high) / 2)
    found = fell & (slope_there >= _FLATTEN * slope)
    return Trial(size, low, high, point, found, trial.num_trials + 1)


def is_open(trial: Trial) -> jax.Array:
    """Tell if a search has another step to try."""
    return ~trial.found & (trial.num_trials < _MAX_TRIALS)


def take(state: Descent, trial: Trial, precondition: Callable[[jax.Array], jax.Array]) -> Descent:
    """Take the step that a search has ended with."""
    before = state.point
    point = jax.tree.map(partial(jnp.where, trial.found), trial.point, before)
    # If no lower point was found, this is no valid pair, and the curvature that led here (across a
    # kink, perhaps) is forgotten.
    preconditioned = precondition(point.gradient)
    memory = update(
        state.memory,
        point.position - before.position,
        point.gradient - before.gradient,
        preconditioned - state.preconditioned,
    )
    norm, count = largest(point.gradient), state.num_iterations + 1
    progress = (point.value < state.best_value) | (norm < state.best_gradient_norm)
    return Descent(
        point,
        preconditioned,
        memory,
        jnp.minimum(point.value, state.best_value),
        jnp.minimum(norm, state.best_gradient_norm),
        count,
        jnp.where(progress, count, state.last_progress),
    )


def largest(gradient: jax.Array) -> jax.Array:
    """Return the largest absolute partial derivative."""
    return jnp.max(jnp.abs(gradient))


def _evaluate(function: Callable[[jax.Array], jax.Array], position: jax.Array) -> Point:
    return Point(position, *jax.value_and_grad(function)(position))
