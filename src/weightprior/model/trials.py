"""Models of counts in known numbers of trials, for targets that include the trials."""

from dataclasses import replace
from typing import Any

import numpy as np

from weightprior import _arrays
from weightprior.model.bnn import BNN

__all__ = ["counted", "in_trials"]


def counted(bnn: BNN, y: np.ndarray) -> tuple[BNN, np.ndarray]:
    """Return the model and the targets for scores: the trials in y are taken as known."""
    likelihood, targets = bnn.likelihood.counted(y)
    return (bnn if likelihood is bnn.likelihood else replace(bnn, likelihood=likelihood)), targets


def in_trials(bnn: BNN, trials: Any, num_rows: int) -> BNN:
    """Return the model of successes in given trials of every row; one trial each by default.

    Raise if the model's targets have no trials, or if `trials` are not valid numbers of them.
    """
    likelihood = bnn.likelihood.of_trials(np.ones(num_rows))
    if likelihood is None:
        if trials is not None:
            raise ValueError(
                "trials: expected None, since only targets of successes and failures have trials "
                f"(weightprior.Binomial); got a likelihood {bnn.likelihood!r}. Leave trials out."
            )
        return bnn
    if trials is not None:
        likelihood = bnn.likelihood.of_trials(_checked(trials, num_rows))
    return replace(bnn, likelihood=likelihood)


def _checked(trials: Any, num_rows: int) -> np.ndarray:
    array = _arrays.finite("trials", trials)
    if array.shape != (num_rows,):
        raise ValueError(
            f"trials: expected shape {(num_rows,)}, a number for every row of x; got {array.shape}."
        )
    bad = array[(array < 1) | (array != np.round(array))]
    if bad.size:
        raise ValueError(f"trials: expected whole numbers of at least 1; got {bad[0]:g}.")
    return array
