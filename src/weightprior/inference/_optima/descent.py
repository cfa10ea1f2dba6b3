"""A search for an optimum, as compiled programs.

Narrow valleys cost L-BFGS thousands of steps. So after some hundred steps it continues in rounds.
Each round is preconditioned by the inverse of a matrix that resembles the Hessian at its start.
Most searches need no such round, so its program is compiled when it is first needed.

Compiling costs more than a search on small data: only one of these programs contains the gradient,
once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightprior.inference import _batch
from weightprior.inference._branch import choose
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._optima import optimise
from weightprior.inference._optima.collapse import is_hopeless, measure
from weightprior.inference._optima.inverse import inverse
from weightprior.inference._optima.optimise import Descent
from weightprior.inference._optima.search import MANY_WEIGHTS, PRECONDITIONED_STEPS, plain_steps

__all__ = ["begin", "begin_near", "move", "precondition"]


class _Round(NamedTuple):
    """A round of a search.

    Attributes
    ----------
    number : array of shape ()
        Number of rounds before it; the first has no matrix.
    value, gradient_norm, num_iterations : array of shape ()
        Value and gradient norm at its start, and the number of steps before it.
    inverse : array of shape (size, size)
        The preconditioner; of shape (0, 0) if there is no room for one.
    descent : Descent
        The steps of the round.
    another : array of shape ()
        True if it has ended, and another round is useful.
    """

    number: jax.Array
    value: jax.Array
    gradient_norm: jax.Array
    num_iterations: jax.Array
    inverse: jax.Array
    descent: Descent
    another: jax.Array


type _Static = tuple[type[Standardised], Any]


def begin(static: _Static, shared: Any, item: Any) -> _Round:
    """Place a search at weights, or at a draw."""
    kind, dtype = static
    bnn, x, y, *_ = shared
    task, given = item
    # In double precision, so that the start is the same in both precisions.
    coordinates = kind(bnn, x, y, task, jnp.float64)
    return _first_round(coordinates.begin(given).astype(dtype), jnp.int32(0))


def begin_near(static: _Static, shared: Any, item: Any) -> _Round:
    """Place a search at the end of another, with its number of steps."""
    _, dtype = static
    _, (position, num_iterations) = item
    return _first_round(position.astype(dtype), num_iterations)


def _first_round(start: jax.Array, num_iterations: jax.Array) -> _Round:
    infinity = jnp.asarray(jnp.inf, start.dtype)
    room = start.size <= MANY_WEIGHTS and start.dtype == jnp.float64
    inverse = jnp.zeros((start.size if room else 0,) * 2, start.dtype)
    descent, no = optimise.begin(start), jnp.asarray(False)
    return _Round(jnp.int32(0), infinity, infinity, num_iterations, inverse, descent, no)


def precondition(static: _Static, shared: Any, item: Any) -> _Round:
    """Begin another round at the end of one, if that is useful."""
    kind, dtype = static
    bnn, x, y, *_ = shared
    (task, _), ended = item
    point = ended.descent.point
    nearly = inverse(kind(bnn, x, y, task, dtype).precision(point.position))
    begun = _Round(
        ended.number + 1,
        point.value,
        optimise.largest(point.gradient),
        ended.num_iterations + ended.descent.num_iterations,
        nearly,
        optimise.resume(point, nearly @ point.gradient),
        jnp.asarray(False),
    )
    return jax.tree.map(lambda new, old: jnp.where(ended.another, new, old), begun, ended)


def move(static: _Static, shared: Any, item: Any) -> _batch.Steps:
    """Take a round some steps further."""
    kind, dtype = static
    bnn, x, y, tolerance, max_iterations = shared
    (task, _), before, num_steps = item
    coordinates = kind(bnn, x, y, task, dtype)
    preconditioned, room = before.number > 0, before.inverse.size > 0

    def precondition(gradient: jax.Array) -> jax.Array:
        if not room:
            return gradient
        return choose(preconditioned, jnp.matmul, lambda _, g: g, before.inverse, gradient)

    plain = plain_steps(len(x), coordinates.size) if room else max_iterations
    # Earlier steps to the neighbourhood of the optimum count, so that a long way there marks a
    # valley.
    plain = jnp.maximum(plain - before.num_iterations, 0)
    most = jnp.where(preconditioned, PRECONDITIONED_STEPS, plain)
    limits = tolerance, jnp.minimum(most, max_iterations - before.num_iterations)
    descent = optimise.descend(_loss(coordinates), before.descent, *limits, num_steps, precondition)
    ended, point = ~optimise.unfinished(descent, *limits), descent.point
    # If a start could not be evaluated, its gradient is not known.
    norm = jnp.where(jnp.isfinite(point.value), optimise.largest(point.gradient), jnp.nan)
    count = before.num_iterations + descent.num_iterations
    weights = coordinates.weights(point.position)
    given = coordinates.x, coordinates.y, coordinates.row_weights
    noise = measure(coordinates.bnn, weights, *given)
    progressed = (point.value < before.value) | (norm < before.gradient_norm)
    another = ended & (norm > tolerance) & (count < max_iterations) & progressed & room
    another &= ~is_hopeless(noise, coordinates.row_weights, tolerance)
    result = {
        "position": point.position,
        "weights": weights,
        "lp": -point.value,
        "gradient_norm": norm,
        "num_iterations": count,
        "collapse": noise,
    }
    taken = descent.num_iterations - before.descent.num_iterations
    after = before._replace(descent=descent, another=another)
    return _batch.Steps(after, taken, ended, result, another)


def _loss(coordinates: Standardised) -> Callable[[jax.Array], jax.Array]:
    return lambda z: -coordinates.log_density(z)
