"""One fit of a sweep: a single prior, and how often each row counts."""

from typing import NamedTuple

import numpy as np

from weightprior.model.priors.base import Prior

__all__ = ["Task"]


class Task(NamedTuple):
    """Arguments of one fit besides the model and its data.

    Attributes
    ----------
    prior : NormalPrior or HierarchicalPrior
        A single prior.
    row_weights : array of shape (rows,)
        Number of times each row counts.
    """

    prior: Prior
    row_weights: np.ndarray
