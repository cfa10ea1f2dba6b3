"""Minimise by L-BFGS in rounds, with the help of a matrix where that alone takes long.

Narrow valleys cost L-BFGS thousands of steps. So after some hundred it goes on in rounds, each in
coordinates in which the matrix is the identity where the round begins.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from weightprior.inference._optima import optimise
from weightprior.inference._optima.optimise import Descent, Point, descend, largest

__all__ = ["Optimum", "Round", "advance", "begin", "unfinished"]

# Steps of a round in whitened coordinates.
_WHITENED_STEPS = 50


class Optimum(NamedTuple):
    """Point that rounds have come to.

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


class Round(NamedTuple):
    """A minimisation in rounds, between two of them or within one.

    Attributes
    ----------
    optimum : Optimum
        Where the round began, or the last one ended.
    number : array of shape ()
        Rounds so far; the coordinates of the first are plain.
    progressed : array of shape ()
        Whether there is use in another.
    under_way : array of shape ()
        Whether the round has begun, so that what follows is its own.
    descent : Descent
        The moves from where it began.
    transform, stretch : array
        From its coordinates to changes of position, and how much longer a gradient can be in them.
    """

    optimum: Optimum
    number: jax.Array
    progressed: jax.Array
    under_way: jax.Array
    descent: Descent
    transform: jax.Array
    stretch: jax.Array


def begin(start: jax.Array, plain_steps, room: bool = True) -> Round:
    """Before the first round, a plain one, which is left out where it has no steps.

    Without `room` for a matrix of all numbers there is no other.
    """
    infinity, zero = jnp.asarray(jnp.inf, start.dtype), jnp.zeros((), jnp.int32)
    nothing = jnp.zeros_like(start)
    none = optimise.at_rest(Point(nothing, infinity, nothing))
    optimum, yes = Optimum(start, infinity, infinity, zero), jnp.asarray(True)
    if room:
        first = jnp.where(plain_steps > 0, 0, 1)
        return Round(optimum, first, yes, ~yes, none, *_no_whitening(start))
    return Round(optimum, zero, yes, ~yes, none, *_no_whitening(nothing[:0]))


def unfinished(state: Round, tolerance, max_iterations) -> jax.Array:
    """Tell whether there is more to do."""
    return state.under_way | (
        (state.optimum.gradient_norm > tolerance)  # false for NaN
        & (state.optimum.num_iterations < max_iterations)
        & state.progressed
    )


def advance(
    function: Callable[[jax.Array], jax.Array],
    precision: Callable[[jax.Array], jax.Array],
    state: Round,
    tolerance,
    max_iterations,
    plain_steps,
    num_steps,
    hopeless: Callable[[jax.Array], jax.Array],
) -> Round:
    """Take a round so many steps further, or to its end.

    Parameters
    ----------
    function : callable
        What is minimised.
    precision : callable
        A positive definite matrix that resembles the Hessian at a position, if there is room.
    state : Round
        Not finished.
    tolerance, max_iterations
        As for a descent, of all rounds together.
    plain_steps : array of shape ()
        Of the first round, without the matrix.
    num_steps : array of shape ()
        Steps to take now, at most.
    hopeless : callable
        Whether no optimum can be met from a position; asked after each round.
    """
    before, whitened, room = state.optimum, state.number > 0, state.transform.size > 0
    transform, stretch = state.transform, state.stretch
    if room:
        transform, stretch = jax.lax.cond(
            state.under_way,
            lambda: (transform, stretch),
            lambda: jax.lax.cond(
                whitened, lambda z: _whitening(precision(z)), _no_whitening, before.position
            ),
        )

    def at(move: jax.Array) -> jax.Array:
        if room:
            move = jax.lax.cond(whitened, lambda m: transform @ m, lambda m: m, move)
        return before.position + move

    def moved(move: jax.Array) -> jax.Array:
        return function(at(move))

    descent = jax.lax.cond(
        state.under_way,
        lambda: state.descent,
        lambda: optimise.begin(moved, jnp.zeros_like(before.position)),
    )
    limits = (
        tolerance / stretch,
        jnp.minimum(
            jnp.where(whitened, _WHITENED_STEPS, plain_steps),
            max_iterations - before.num_iterations,
        ),
    )
    descent = descend(moved, descent, *limits, num_steps)
    position = at(descent.point.position)
    value, gradient = jax.value_and_grad(function)(position)
    count = before.num_iterations + descent.num_iterations
    after = Optimum(position, value, largest(gradient), count)
    better = (value < before.value) | (after.gradient_norm < before.gradient_norm)
    goes_on = (better | ~whitened) & ~hopeless(position)
    ended = ~optimise.unfinished(descent, *limits)
    return Round(
        jax.tree.map(lambda new, old: jnp.where(ended, new, old), after, before),
        state.number + ended,
        jnp.where(ended, goes_on, state.progressed) if room else ~ended,
        ~ended,
        descent,
        transform,
        stretch,
    )


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
