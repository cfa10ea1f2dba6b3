"""Pareto-smoothed importance weights, with one guard for ratios that cannot be smoothed."""

from typing import Any

import numpy as np
from arviz_stats.base.array import array_stats

__all__ = ["MAX_PARETO_K", "largest_good_k", "pareto_smoothed"]

_stats: Any = array_stats  # its annotations are narrower than the types it accepts

# Above it, a mean over weighted draws converges too slowly to be reliable.
MAX_PARETO_K = 0.7
# Nats below the largest at which a weight is negligible; and nats by which equal weights may differ
# by rounding.
_NEGLIGIBLE_BELOW, _SAME_BY_ROUNDING = 700.0, 1e-6


def pareto_smoothed(
    log_ratio: np.ndarray, relative_efficiency: float = 1.0
) -> tuple[np.ndarray, float]:
    """Smooth the log importance ratios of draws, and judge their tail.

    Parameters
    ----------
    log_ratio : array of shape (draws,)
        Log densities of the target less those of the proposal; minus infinity is a weight of 0.
    relative_efficiency : float
        Effective draws over draws.

    Returns
    -------
    log_weights : array of shape (draws,)
        Smoothed, and not normalised.
    pareto_k : float
        Minus infinity if all ratios are the same; infinity if the largest ones are, so that there
        is no tail to fit, and if ratios overflow.

    References
    ----------
    A. Vehtari, D. Simpson, A. Gelman, Y. Yao and J. Gabry, Pareto smoothed importance sampling,
    JMLR 25, 2024. :doi:`10.48550/arXiv.1507.02646`
    """
    largest = log_ratio.max()
    if np.ptp(log_ratio) < _SAME_BY_ROUNDING:
        return log_ratio - largest, -np.inf
    floored = np.maximum(log_ratio, largest - _NEGLIGIBLE_BELOW)
    try:
        # ArviZ's argument is the log of the inverse of the weights.
        smoothed, k = _stats.psislw(-floored, r_eff=relative_efficiency)
    except ValueError:  # the largest are all the same, as those of a chain that never moved
        return log_ratio - largest, np.inf
    # After an overflow there is no k. This must not pass for a small one.
    return np.asarray(smoothed), np.inf if np.isnan(k) else float(k)


def largest_good_k(num_draws: int) -> float:
    """Return the Pareto k above which so many draws are too few to be reliable."""
    return min(1 - 1 / np.log10(num_draws), MAX_PARETO_K)
