"""Evidence from a ladder of temperatures: the multistate Bennett acceptance ratio.

Draws at every inverse temperature b have the density prior x likelihood^b / Z(b). Only the log
likelihoods of all draws matter: the logs of the normalisers Z are the intercepts of the logistic
regression that best tells from its log likelihood which temperature a draw came from. It is convex,
and uses every draw for every normaliser.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

__all__ = ["FreeEnergy", "estimate", "next_temperature"]

# Draws looked at at once.
_BLOCK = 2**15
# Where data say nothing, every draw counts at any temperature.
_LONGEST_STEP = 8.0


class FreeEnergy(NamedTuple):
    """What a ladder says about the normalisers.

    Attributes
    ----------
    log_evidence : array of shape (temperatures,)
        Log of Z(b) over Z(b[0]).
    error : array of shape (temperatures,)
        Its standard error, from how much chains differ, which are taken for independent.
    overlap : array of shape (temperatures - 1,)
        Between neighbours: the probability that a draw of the one is taken for one of the other,
        were these two alone. A half where they are alike, nought where they share no draws.
    """

    log_evidence: np.ndarray
    error: np.ndarray
    overlap: np.ndarray


def estimate(inverse_temperatures: np.ndarray, energies: np.ndarray) -> FreeEnergy:
    """Estimate log normalisers from the log likelihoods of draws.

    Parameters
    ----------
    inverse_temperatures : array of shape (temperatures,)
        Ascending; the first is that of the normaliser that is known.
    energies : array of shape (temperatures, chains, draws)
        Log likelihood of every draw, in nats. Chain i is one and the same at every temperature,
        and independent of all others.

    References
    ----------
    C. J. Geyer, Estimating normalizing constants and reweighting mixtures, 1994.

    M. R. Shirts and J. D. Chodera, Statistically optimal analysis of samples from multiple
    equilibrium states, 2008. :doi:`10.1063/1.2978177`

    Standard errors are those of an M-estimator whose clusters are the chains: K.-Y. Liang and S. L.
    Zeger, Longitudinal data analysis using generalized linear models, 1986.
    :doi:`10.1093/biomet/73.1.13`
    """
    beta, (count, num_chains, num_draws) = np.asarray(inverse_temperatures), energies.shape
    # Counted from a level near the posterior's, where all weights are of order one.
    level = energies[-1].mean()
    flat = (energies - level).transpose(1, 0, 2).reshape(num_chains, -1)
    total = flat.size

    def shares(intercepts: np.ndarray):
        """Block by block: each temperature's probability for every draw, and log of their sum."""
        free = np.append(0.0, intercepts)
        for chain, values in enumerate(flat):
            for start in range(0, values.size, _BLOCK):
                exponents = free[:, None] + beta[:, None] * values[None, start : start + _BLOCK]
                top = exponents.max(axis=0)
                unscaled = np.exp(exponents - top)
                total_share = unscaled.sum(axis=0)
                yield chain, unscaled / total_share, np.log(total_share) + top

    def objective(intercepts: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = 0.0, np.zeros(count)
        for _, share, log_sum in shares(intercepts):
            value += log_sum.sum()
            gradient += share.sum(axis=1)
        num_each = num_chains * num_draws
        value -= num_each * intercepts.sum()
        return value / total, (gradient - num_each)[1:] / total

    def hessian(intercepts: np.ndarray) -> np.ndarray:
        matrix = np.zeros((count, count))
        for _, share, _ in shares(intercepts):
            matrix += np.diag(share.sum(axis=1)) - share @ share.T
        return matrix[1:, 1:] / total

    means = (energies - level).mean(axis=(1, 2))
    start = -np.cumsum(np.diff(beta) * (means[1:] + means[:-1]) / 2)
    found = minimize(objective, start, jac=True, hess=hessian, method="trust-exact", tol=1e-9)
    scores = np.zeros((num_chains, count))
    for chain, share, _ in shares(found.x):
        scores[chain] += share.sum(axis=1)
    scores = (scores - num_draws)[:, 1:] / total
    inverse = np.linalg.pinv(hessian(found.x), hermitian=True)
    moved = scores @ inverse
    spread = num_chains / (num_chains - 1) * (moved**2).sum(axis=0)
    log_evidence = np.append(0.0, -found.x) + (beta - beta[0]) * level
    overlap = np.array([_overlap(*pair) for pair in _neighbours(beta, energies, log_evidence)])
    return FreeEnergy(log_evidence, np.append(0.0, np.sqrt(spread)), overlap)


def _neighbours(beta, energies, log_evidence):
    for low in range(len(beta) - 1):
        step, ratio = beta[low + 1] - beta[low], log_evidence[low + 1] - log_evidence[low]
        yield step * energies[low] - ratio, step * energies[low + 1] - ratio


def _overlap(below: np.ndarray, above: np.ndarray) -> float:
    """From the log density ratios, upper over lower, of the draws of both."""
    taken_for_upper = 1 / (1 + np.exp(-np.clip(below, -700, 700)))
    taken_for_lower = 1 / (1 + np.exp(np.clip(above, -700, 700)))
    return float((taken_for_upper.mean() + taken_for_lower.mean()) / 2)


def next_temperature(inverse_temperature: float, energies: np.ndarray, share: float) -> float:
    """The next of a ladder, which may be beyond 1: as many draws as this share still count there.

    Parameters
    ----------
    inverse_temperature : float
        Where the draws are from.
    energies : array
        Their log likelihoods.
    share : float
        Effective sample size of the reweighted draws over their number.

    References
    ----------
    A. Jasra, D. A. Stephens, A. Doucet and T. Tsagaris, Inference for Lévy-driven stochastic
    volatility models via adaptive sequential Monte Carlo, 2011.
    :doi:`10.1111/j.1467-9469.2010.00723.x`
    """
    flat = energies.ravel() - energies.max()

    def enough(step: float) -> bool:
        log_ess = 2 * logsumexp(step * flat) - logsumexp(2 * step * flat)
        return bool(log_ess >= np.log(share * flat.size))

    low = high = _LONGEST_STEP
    while not enough(low):
        low, high = low / 2, low
    # A step may be of any order of magnitude, whence the bisection of its logarithm.
    for _ in range(20):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if enough(middle) else (low, middle)
    return inverse_temperature + low
