"""Ranks of a truth among draws, and an exact test with its band that they are uniform."""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from arviz_stats.base.array import array_stats
from scipy import stats

__all__ = ["Uniformity", "effective", "judge_ranks", "rank"]


def rank(true: np.ndarray, draws: np.ndarray, num_draws: int, rng: np.random.Generator) -> Any:
    """Count how many of `num_draws` draws, evenly spread over all chains, lie below the truth.

    Parameters
    ----------
    true : array of shape (...)
        The truth.
    draws : array of shape (chains, draws, ...)
        At least `num_draws` in all.
    num_draws : int
        Number of draws that are used.
    rng : Generator
        Decides the rank of the truth among draws that equal it.
    """
    flat = draws.reshape(-1, *draws.shape[2:])
    # The middle draw of each of `num_draws` equally long pieces.
    chosen = flat[((np.arange(num_draws) + 0.5) * (len(flat) / num_draws)).astype(int)]
    ties = (chosen == true).sum(axis=0)
    return (chosen < true).sum(axis=0) + rng.integers(0, ties, endpoint=True)


def effective(draws: np.ndarray) -> np.ndarray:
    """Compute the effective sample sizes of all draws of a fit, not of the ranked draws alone.

    If they exceed the number of ranked draws, the ranked draws are about independent.
    """
    if draws.shape[1] < 4:  # halves of a chain need two draws each
        return np.full(draws.shape[2:], np.nan)
    # ArviZ takes draws that never move for independent ones.
    moves = np.ptp(draws, axis=(0, 1)) > 0
    ess = array_stats.ess(draws, chain_axis=0, draw_axis=1, method="bulk")
    return np.where(moves, ess, 1.0)


class Uniformity(NamedTuple):
    """Comparison of several quantities' ranks with the uniform distribution.

    Attributes
    ----------
    ecdf_diff : dict of str to array of shape (num_draws, ...)
        Share of ranks below j, for j from 1 to num_draws, minus j / (num_draws + 1).
    lower, upper : array of shape (num_draws,)
        Limits that every `ecdf_diff` stays within, except with the probability `level`.
    p_values : dict of str to array of shape (...)
        P-value of every quantity alone.
    p_value : float
        P-value of all together, by Bonferroni.
    uniform : bool
        True if every `ecdf_diff` stays within `lower` and `upper`.
    """

    ecdf_diff: dict[str, np.ndarray]
    lower: np.ndarray
    upper: np.ndarray
    p_values: dict[str, np.ndarray]
    p_value: float
    uniform: bool


def judge_ranks(ranks: Mapping[str, np.ndarray], num_draws: int, level: float) -> Uniformity:
    """Compare ranks with the uniform distribution over 0, ..., num_draws.

    The number of ranks below j is binomial. The statistic is the smallest two-sided tail
    probability over all j, so that the ends of the ECDF count as much as its middle. It is beyond
    its critical value if the ECDF leaves the simultaneous band of Säilynoja et al. 2022,
    doi:10.1007/s11222-022-10090-6.

    Parameters
    ----------
    ranks : mapping of str to array of int, of shape (simulations, ...)
        Independent along the first axis; quantities may depend on each other in any way.
    num_draws : int
        The largest possible rank.
    level : float
        Probability that uniform ranks are rejected, over all quantities.
    """
    num_simulations = len(next(iter(ranks.values())))
    num_quantities = sum(values[0].size for values in ranks.values())
    null = _Null.of(num_simulations, num_draws)
    ecdf_diff, smallest = {}, {}
    for name, values in ranks.items():
        j = np.arange(1, num_draws + 1).reshape(-1, *[1] * (values.ndim - 1))
        counts = (values < j[:, None]).sum(axis=1)
        ecdf_diff[name] = counts / num_simulations - j / (num_draws + 1)
        smallest[name] = null.tails[j - 1, counts].min(axis=0)
    p_values = {name: np.vectorize(null.beyond)(tails) for name, tails in smallest.items()}
    critical = null.critical(level / num_quantities)
    lower, upper = null.band(critical)
    return Uniformity(
        ecdf_diff,
        lower,
        upper,
        p_values,
        min(1.0, num_quantities * float(min(p.min() for p in p_values.values()))),
        all(bool(np.all(tails > critical)) for tails in smallest.values()),
    )


class _Null(NamedTuple):
    """Distribution of the number of ranks below j, for uniform ranks, as j grows.

    It is a Poisson process, conditional on arriving at the number of all ranks.

    Attributes
    ----------
    share : array of shape (num_draws, 1)
        Probability of a rank below j.
    tails : array of shape (num_draws, num_ranks + 1)
        Two-sided tail probability of every number of ranks below j.
    step : array of shape (num_ranks + 1,)
        Probability of every number of arrivals from one j to the next.
    rest : array of shape (num_draws, num_ranks + 1)
        Probability of the arrivals still missing at j, divided by that of all arrivals.
    """

    share: np.ndarray
    tails: np.ndarray
    step: np.ndarray
    rest: np.ndarray

    @classmethod
    def of(cls, num_ranks: int, num_draws: int) -> "_Null":
        number = np.arange(num_ranks + 1)
        share = np.arange(1, num_draws + 1)[:, None] / (num_draws + 1)
        lower = stats.binom.cdf(number, num_ranks, share)
        arrivals = stats.poisson.pmf
        every = arrivals(num_ranks, num_ranks)
        return cls(
            share,
            tails=2 * np.minimum(lower, lower[::-1, ::-1]),  # the upper tail, mirrored
            step=arrivals(number, num_ranks / (num_draws + 1)),
            rest=arrivals(num_ranks - number, num_ranks * (1 - share)) / every,
        )

    def beyond(self, tail: float) -> float:
        """Compute the probability of a tail this small at any j, as a sum over the first one."""
        path, total = np.zeros(len(self.step)), 0.0
        path[0] = 1.0
        for is_beyond, rest in zip(self.tails <= tail, self.rest, strict=True):
            path = np.convolve(path, self.step)[: len(path)]
            total += path[is_beyond] @ rest[is_beyond]
            path[is_beyond] = 0.0
        return min(1.0, float(total))

    def critical(self, level: float) -> float:
        """Return the largest tail with at most this probability; -1 if no tail is so rare."""
        tails = np.unique(self.tails)
        index = bisect_right(tails, level, key=self.beyond)
        return float(tails[index - 1]) if index else -1.0

    def band(self, critical: float) -> tuple[np.ndarray, np.ndarray]:
        """Return, for every j, the smallest and largest `ecdf_diff` with a tail above critical."""
        inside, last = self.tails > critical, len(self.step) - 1
        lower, upper = inside.argmax(axis=1), last - inside[:, ::-1].argmax(axis=1)
        return lower / last - self.share[:, 0], upper / last - self.share[:, 0]
