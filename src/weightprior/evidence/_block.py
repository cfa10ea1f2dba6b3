"""Code of one block of rows, by the mean of its density over draws, and its error."""

from typing import Any, NamedTuple

import numpy as np
from arviz_stats.base.array import array_stats

from weightprior.evaluation._metrics import log_mean
from weightprior.fits.importance import MAX_PARETO_K, pareto_smoothed

__all__ = ["Block", "mcse", "weigh"]

_stats: Any = array_stats  # its annotations are too narrow
# Log densities closer than this, in nats, are equal up to rounding.
_SAME_BY_ROUNDING = 1e-6
# The tail of fewer draws tells nothing about the region without draws. Above this Pareto k, a mean
# over draws need not exist. Chains with a larger R-hat are in different places.
_MIN_DRAWS, _MAX_PARETO_K_OF_A_MEAN, _MAX_RHAT = 100, 1.0, 1.1


class Block(NamedTuple):
    """Code of one block, estimated from its draws.

    Attributes
    ----------
    nats, error : float
        Minus the log of the mean density over draws, and its standard error.
    pareto_k : float
        Pareto k of the densities.
    relative : array of shape (chain, draw)
        Every draw's density as a multiple of their mean.
    trouble : str
        The problem; empty if there is none.
    """

    nats: float
    error: float
    pareto_k: float
    relative: np.ndarray
    trouble: str


def weigh(log_density: np.ndarray) -> Block:
    """Estimate the mean of a block's density over draws, (chain, draw), and judge it."""
    nats = -float(log_mean(log_density))
    if log_density.size == 1:
        return Block(nats, 0.0, np.nan, np.zeros((1, 1)), "")
    if nats == np.inf:
        nothing = np.zeros_like(log_density)
        return Block(nats, np.nan, np.nan, nothing, "no draw gives it a density")
    relative = np.exp(log_density + nats)
    if np.ptp(log_density) < _SAME_BY_ROUNDING:
        return Block(nats, 0.0, -np.inf, relative, "")
    error, pareto_k = mcse(relative), _pareto_k(log_density)
    share = relative.max() / relative.size
    trouble = ""
    if log_density.size < _MIN_DRAWS:
        trouble = f"fewer than {_MIN_DRAWS} draws"
    elif not pareto_k <= MAX_PARETO_K or share > 0.5:
        trouble = "few draws outweigh all others (Pareto k above 0.7): take more blocks or draws"
    elif len(log_density) > 1 and _stats.rhat(log_density, chain_axis=0) > _MAX_RHAT:
        trouble = f"chains disagree (R-hat above {_MAX_RHAT}): take longer chains"
    known = not pareto_k > _MAX_PARETO_K_OF_A_MEAN and share <= 0.5
    return Block(nats, error if known else np.nan, pareto_k, relative, trouble)


def mcse(series: np.ndarray) -> float:
    """Compute the Monte-Carlo error of a mean over (chain, draw), within and between chains."""
    return float(_stats.mcse(series, chain_axis=0, draw_axis=1, method="mean"))


def _pareto_k(log_density: np.ndarray) -> float:
    if log_density.size < _MIN_DRAWS:
        return np.nan
    return pareto_smoothed(log_density.ravel())[1]
