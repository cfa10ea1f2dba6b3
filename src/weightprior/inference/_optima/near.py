"""Places near an optimum, where runs begin that find their way from there.

A hundred steps do, so few that SciPy takes them around a compiled gradient: a compiled optimiser
would take longer to compile than they take.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from weightprior.fits.task import Task
from weightprior.inference import _batch, _driven
from weightprior.inference._coordinates.standardised import Standardised

__all__ = ["find", "prepare"]

# Starts are to be reasonable, not optimal: what follows finds its way from there.
_ITERATIONS = 100
_TOLERANCE = 1e-1


def prepare(shared: Any, item: Any, num_branches: int, num_items: int) -> Any:
    """Begin to compile what `find` needs; a position's shape and dtype."""
    start = _batch.prepare(_draw, num_branches, shared, item, num_items)
    _driven.prepare(_evaluate, None, shared, (item[0], start, start))
    return start


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
    starts = _batch.run(_draw, num_branches, shared, items)
    begun = [(task, start) for (task, _), start in zip(items, starts, strict=True)]
    given = (*begun[0], starts[0])
    return _driven.run(_evaluate, None, shared, begun, _descend, given)


def _descend(evaluate: Callable[..., Any], item: tuple[Task, np.ndarray]) -> np.ndarray:
    task, start = item

    def loss(position: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = evaluate((task, start, position.astype(start.dtype)))
        return float(value), np.asarray(gradient, np.float64)

    limits = {"maxiter": _ITERATIONS, "gtol": _TOLERANCE, "ftol": 0.0}
    found = minimize(loss, start.astype(np.float64), jac=True, method="L-BFGS-B", options=limits)
    return found.x.astype(start.dtype)


def _coordinates(shared: Any, task: Task) -> Standardised:
    """All weights and hyperparameters, in JAX's precision."""
    bnn, x, y, *_ = shared
    return Standardised(bnn, x, y, task, jnp.result_type(float))


def _draw(num_branches: int, shared: Any, item: Any) -> jax.Array:
    task, key = item
    return _coordinates(shared, task).draw(jax.random.split(key, num_branches)[0])


def _evaluate(static: None, shared: Any, item: Any) -> tuple[jax.Array, jax.Array]:
    """Minus the log density, and its gradient in the weights alone.

    Latents such as the noise stay where they were drawn: fitting them together with the weights
    leads to the edge of the space, where a flexible network meets every target and the noise
    vanishes.
    """
    task, start, position = item
    coordinates = _coordinates(shared, task)
    fixed = coordinates.mask(coordinates.bnn.latents)
    return jax.value_and_grad(
        lambda z: -coordinates.log_density(jnp.where(fixed, start, z)),
    )(position)
