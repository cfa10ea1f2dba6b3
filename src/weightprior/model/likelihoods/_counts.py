"""Parts that likelihoods of counts share: their check, and directions that zeros leave open."""

import numpy as np

from weightprior.model.likelihoods.terms import Recession

__all__ = ["check_counts", "recession_of_counts"]

_OF_RATES = (
    "For rates pass the counts, and the log of the exposure as a column of x that "
    "mlp(..., offset=...) names."
)


def check_counts(array: np.ndarray, of_rates: str = _OF_RATES) -> np.ndarray:
    """Return counts, or raise if one is not a whole number of at least 0.

    `of_rates` is the advice if counts have been divided by something.
    """
    bad = array[(array < 0) | (array != np.round(array))]
    if bad.size:
        negative = np.any(array < 0)
        advice = "Pass counts as they are, without standardising them." if negative else of_rates
        raise ValueError(f"y: expected counts 0, 1, 2, ...; got {bad.flat[0]:g}. {advice}")
    return array


def recession_of_counts(counts: np.ndarray) -> Recession:
    """Find directions that never lower the density of counts, with the output as their log mean.

    For a count of 0 the best mean is 0; any other count has its own best mean.
    """
    zero = counts == 0
    never = np.zeros_like(zero)
    return Recession.of_each(
        never, zero, "counts of 0 are separated from others", "all counts are 0"
    )
