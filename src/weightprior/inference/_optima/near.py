"""Places near an optimum, where runs begin that find their way from there."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weightprior.fits.task import Task
from weightprior.inference import _batch
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.inference._optima import optimise

__all__ = ["find", "prepare"]

# Starts are to be reasonable, not optimal: what follows finds its way from there.
_ITERATIONS = 100
_TOLERANCE = 1e-1


def prepare(shared: Any, item: Any, num_branches: int, num_items: int) -> Any:
    """Begin to compile what `find` needs; a position's shape and dtype."""
    return _batch.prepare_steps(_begin, _move, num_branches, shared, item, num_items)


def find(
    shared: Any, items: Sequence[tuple[Task, jax.Array]], num_branches: int
) -> list[np.ndarray]:
    """Ends of short optimisations, each from a draw of a prior: positions.

    Parameters
    ----------
    shared : tuple
        The model and its data, and whatever stands behind these.
    items : sequence of (task, key)
        Whose density, and the chances of its run.
    num_branches : int
        Into how many a run splits its key; the first of them draws.
    """
    return _batch.run_steps(_begin, _move, num_branches, shared, items)


def _coordinates(shared: Any, task: Task) -> Standardised:
    """All weights and hyperparameters, in JAX's precision."""
    bnn, x, y, *_ = shared
    return Standardised(bnn, x, y, task, jnp.result_type(float))


def _begin(num_branches: int, shared: Any, item: Any) -> Any:
    task, key = item
    coordinates = _coordinates(shared, task)
    start = coordinates.draw(jax.random.split(key, num_branches)[0])
    return start, optimise.begin(start)


def _move(num_branches: int, shared: Any, item: Any) -> _batch.Steps:
    (task, _), (start, before), num_steps = item
    coordinates = _coordinates(shared, task)
    limits = _TOLERANCE, _ITERATIONS
    after = optimise.descend(_loss(coordinates, start), before, *limits, num_steps)
    taken = after.num_iterations - before.num_iterations
    ended = ~optimise.unfinished(after, *limits)
    return _batch.Steps((start, after), taken, ended, after.point.position)


def _loss(coordinates: Standardised, start: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """Minus the log density, as a function of the weights alone.

    Latents such as the noise stay where they were drawn: fitting them together with the weights
    leads to the edge of the space, where a flexible network meets every target and the noise
    vanishes.
    """
    fixed = coordinates.mask(coordinates.bnn.latents)
    return lambda z: -coordinates.log_density(jnp.where(fixed, start, z))
