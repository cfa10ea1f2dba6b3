"""Positions near an optimum, as starts of runs.

A hundred steps are enough. They are so few that SciPy takes them with a compiled gradient:
compiling an optimiser would take longer than the steps.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.random import SeedSequence
from scipy.optimize import minimize

from weightprior.fits.task import Task
from weightprior.inference import _driven
from weightprior.inference._coordinates.standardised import Standardised

__all__ = ["find", "position", "prepare"]

# Starts must be reasonable, not optimal: the next search continues from there.
_ITERATIONS = 100
_TOLERANCE = 1e-1


def prepare(shared: Any, task: Task) -> None:
    """Begin to compile what `find` needs."""
    start = position(shared, task)
    _driven.prepare(_evaluate, None, shared, (task, start), start)


def find(shared: Any, tasks: Sequence[Task], seeds: Sequence[SeedSequence]) -> list[np.ndarray]:
    """Find the ends of short optimisations, each from a draw of a prior: positions.

    Parameters
    ----------
    shared : tuple
        The model and its data; further entries are ignored.
    tasks : sequence of Task
        Their densities are optimised.
    seeds : sequence of SeedSequence
        Seeds of the starts.
    """
    kind = position(shared, tasks[0])
    draws = [np.random.default_rng(seed).standard_normal(kind.shape) for seed in seeds]
    begun = [(task, z.astype(kind.dtype)) for task, z in zip(tasks, draws, strict=True)]
    return _driven.run(_evaluate, None, shared, begun, _descend, kind)


def _descend(evaluate: Callable[..., Any], item: tuple[Task, np.ndarray]) -> np.ndarray:
    _, start = item

    def loss(position: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = evaluate(position.astype(start.dtype))
        return float(value), np.asarray(gradient, np.float64)

    limits = {"maxiter": _ITERATIONS, "gtol": _TOLERANCE, "ftol": 0.0}
    found = minimize(loss, start.astype(np.float64), jac=True, method="L-BFGS-B", options=limits)
    return found.x.astype(start.dtype)


def _coordinates(shared: Any, task: Task) -> Standardised:
    """Return coordinates of all weights and hyperparameters, in JAX's precision."""
    bnn, x, y, *_ = shared
    return Standardised(bnn, x, y, task, jnp.result_type(float))


def position(shared: Any, task: Task) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of a position."""
    sites = {**task.prior.sites, **shared[0].sites}
    size = sum(math.prod(site.shape) for site in sites.values())
    return jax.ShapeDtypeStruct((size,), jnp.result_type(float))


def _evaluate(static: None, shared: Any, item: Any) -> tuple[jax.Array, jax.Array]:
    """Compute minus the log density, and its gradient in the weights alone.

    Latents such as the noise keep their drawn values. Fitting them together with the weights leads
    to the edge of the space: there a flexible network meets every target and the noise vanishes.
    """
    (task, start), position = item
    coordinates = _coordinates(shared, task)
    fixed = coordinates.mask(coordinates.bnn.latents)
    return jax.value_and_grad(
        lambda z: -coordinates.log_density(jnp.where(fixed, start, z)),
    )(position)
