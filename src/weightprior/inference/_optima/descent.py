"""A search for an optimum, as compiled programs: first rough, then exact.

In single precision a step costs half as much, and rounds gradients; the last steps are in double
precision, whatever JAX's own is set to.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from weightprior.inference import _batch
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._optima import optimise, whitened
from weightprior.inference._optima.collapse import Collapse, is_hopeless, measure

__all__ = ["EXACT", "ROUGH"]

# Single precision rounds gradients at about 1e-4 of what it sums; double precision takes over
# well before that, at a hundredth of a nat per unit, or after so many steps.
_ROUGH_TOLERANCE = 1e-2
_ROUGH_STEPS = 4000
# After so many steps, of the search or of the finish, the optimum is known to lie in a narrow
# valley, and curvature is worth looking at, as long as that of so many weights fits into memory.
_LONG_SEARCH = 350
_LONG_FINISH = 1000
_MANY_WEIGHTS = 4000


class _Near(NamedTuple):
    """The neighbourhood of an optimum, and the steps that led there."""

    position: jax.Array
    num_iterations: jax.Array


def _begin_rough(kind: type[Standardised], shared: Any, item: Any) -> Any:
    """Place a start, in double precision and as a descent in single precision."""
    bnn, x, y, *_ = shared
    task, given = item
    # In double precision, so that the finish could begin at the same place.
    exact = kind(bnn, x, y, task, jnp.float64)
    start = exact.position(given) if isinstance(given, Mapping) else exact.draw(given)
    coordinates = kind(bnn, x, y, task, jnp.float32)
    return start, optimise.begin(_loss(coordinates), start.astype(jnp.float32))


def _move_rough(kind: type[Standardised], shared: Any, item: Any) -> _batch.Steps:
    """Descend to the neighbourhood of an optimum, in single precision."""
    bnn, x, y, _, max_iterations = shared
    (task, _), (start, before), num_steps = item
    coordinates = kind(bnn, x, y, task, jnp.float32)
    # A quarter of the steps is kept for the finish, so that it always has its turn.
    most = jnp.minimum(_ROUGH_STEPS, max_iterations - (max_iterations + 3) // 4)
    after = optimise.descend(_loss(coordinates), before, _ROUGH_TOLERANCE, most, num_steps)
    near, count = after.point, after.num_iterations
    # Single precision may have overflowed where double does not: then it begins anew.
    usable = jnp.isfinite(near.value) & jnp.all(jnp.isfinite(near.position))
    return _batch.Steps(
        (start, after),
        count - before.num_iterations,
        ~optimise.unfinished(after, _ROUGH_TOLERANCE, most),
        _Near(jnp.where(usable, near.position.astype(jnp.float64), start), count),
    )


def _begin_exact(kind: type[Standardised], shared: Any, item: Any) -> whitened.Round:
    _, near = item
    size = near.position.size
    return whitened.begin(near.position, _plain_steps(near), room=size <= _MANY_WEIGHTS)


def _move_exact(kind: type[Standardised], shared: Any, item: Any) -> _batch.Steps:
    """Go on to the tolerance, in double precision."""
    bnn, x, y, tolerance, max_iterations = shared
    (task, near), before, num_steps = item
    coordinates = kind(bnn, x, y, task, jnp.float64)

    def noise_at(position: jax.Array) -> Collapse:
        given = coordinates.x, coordinates.y, coordinates.row_weights
        return measure(coordinates.bnn, coordinates.weights(position), *given)

    def hopeless(position: jax.Array) -> jax.Array:
        return is_hopeless(noise_at(position), coordinates.row_weights, tolerance)

    limits = tolerance, max_iterations - near.num_iterations
    after = whitened.advance(
        _loss(coordinates),
        coordinates.precision,
        before,
        *limits,
        _plain_steps(near, hopeless(near.position)),
        num_steps,
        hopeless,
    )
    end, count = after.optimum, after.descent.num_iterations
    result = {
        "weights": coordinates.weights(end.position),
        "lp": -end.value,
        "gradient_norm": end.gradient_norm,
        "num_iterations": near.num_iterations + end.num_iterations,
        "collapse": noise_at(end.position),
    }
    taken = count - jnp.where(before.under_way, before.descent.num_iterations, 0)
    return _batch.Steps(after, taken, ~whitened.unfinished(after, *limits), result)


# How each half of a search begins, and moves.
ROUGH, EXACT = (_begin_rough, _move_rough), (_begin_exact, _move_exact)


def _loss(coordinates: Standardised) -> Callable[[jax.Array], jax.Array]:
    return lambda z: -coordinates.log_density(z)


def _plain_steps(near: _Near, hopeless: Any = False) -> jax.Array:
    """Steps without curvature: none where the search has been long, all where there are no others.

    The others are left out where so many weights leave no room for a matrix.
    """
    if near.position.size > _MANY_WEIGHTS:
        return jnp.where(hopeless, _LONG_FINISH, jnp.iinfo(jnp.int32).max)
    return jnp.where(near.num_iterations < _LONG_SEARCH, _LONG_FINISH, 0)
