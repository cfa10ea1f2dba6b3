"""Choice of the coordinates of a Markov chain."""

from typing import Any

import jax.numpy as jnp

from weightprior.fits.task import Task
from weightprior.inference._coordinates.collapsed import CollapsedOutput, collapsible_sites
from weightprior.inference._coordinates.standardised import Standardised

__all__ = ["all_coordinates", "coordinates_of"]


def coordinates_of(collapse: bool, shared: Any, task: Task) -> Standardised:
    """Choose the coordinates of a kernel.

    Parameters
    ----------
    collapse : bool
        True if it samples the density with the output layer integrated out, where possible.
    shared : tuple
        The model and its data; further entries are ignored.
    task : Task
        A single prior, and how often each row counts.
    """
    bnn, x, y, *_ = shared
    integrated = collapsible_sites(bnn, task.prior) if collapse else ()
    if integrated:
        return CollapsedOutput(bnn, x, y, task, jnp.result_type(float), integrated)
    return all_coordinates(shared, task)


def all_coordinates(shared: Any, task: Task) -> Standardised:
    """Return coordinates of all weights and hyperparameters, in JAX's precision."""
    bnn, x, y, *_ = shared
    return Standardised(bnn, x, y, task, jnp.result_type(float))
