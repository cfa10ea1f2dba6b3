"""Evidence from a ladder of temperatures: the multistate Bennett acceptance ratio.

Draws at every inverse temperature b have the density prior x likelihood^b / Z(b). The estimate
needs only the log density of all draws at all temperatures. The logs of the normalisers Z are the
intercepts of the multinomial regression that best predicts the temperature of a draw. It is convex,
and uses every draw for every normaliser.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

__all__ = ["Curve", "FreeEnergy", "estimate", "next_temperature", "reliability_issues"]

# Draws that are evaluated at once.
_DRAWS_AT_ONCE = 2**15
# If the data say nothing, every draw counts at any temperature: a step needs a limit.
_LONGEST_STEP = 8.0


# An evidence is unreliable if neighbouring temperatures overlap less than the first number. It is
# unreliable if the R-hat of the chains' estimates is above the second: chains that all lag behind
# their temperature had 1.09, with a value off by five standard errors, and others had 1.01 to 1.03.
# It is unreliable if every second temperature alone moves it by more than three standard errors.
# Below a tenth of a nat, neither of the last two matters.
_MIN_OVERLAP, _MAX_RHAT, _MIN_ERRORS_OF_LAG, _MAX_ERRORS_MOVED, _NEGLIGIBLE_NATS = (
    0.05,
    1.05,
    5.0,
    3.0,
    0.1,
)


class Curve(NamedTuple):
    """The log density of draws as a function of the inverse temperature b, without the prior's.

    It is ``linear * b``, b times the log likelihood. If normal weights z were integrated out, the
    log likelihood is the quadratic form ``linear + projections z - eigenvalues z^2 / 2``. The curve
    is then the log of the mean of ``exp(b * log likelihood)`` over the prior of z.

    Attributes
    ----------
    linear : array of shape (chains, draws)
    eigenvalues, projections : array of shape (chains, draws, weights)
        The last axis is empty if no weights were integrated out.
    """

    linear: np.ndarray
    eigenvalues: np.ndarray
    projections: np.ndarray

    def at(self, beta: float) -> np.ndarray:
        """Compute the log density at an inverse temperature."""
        widened = 1.0 + beta * self.eigenvalues
        gained = (beta * self.projections) ** 2 / widened - np.log(widened)
        return beta * self.linear + 0.5 * gained.sum(axis=-1)

    def slope(self, beta: float) -> np.ndarray:
        """Compute its derivative: the mean log likelihood, given the weights that remain."""
        widened = 1.0 + beta * self.eigenvalues
        mean, variance = beta * self.projections / widened, 1.0 / widened
        terms = mean * self.projections - 0.5 * self.eigenvalues * (mean**2 + variance)
        return self.linear + terms.sum(axis=-1)


class FreeEnergy(NamedTuple):
    """Estimates of a ladder's normalisers.

    Attributes
    ----------
    log_evidence : array of shape (temperatures,)
        Log of Z(b) over Z(b[0]).
    error : array of shape (temperatures,)
        Its standard error, from the differences between chains, which are taken as independent.
    overlap : array of shape (temperatures - 1,)
        Between neighbours: the probability that a draw of one is taken for a draw of the other, if
        there were only these two. It is a half if they are alike, and 0 if they share no draws.
    """

    log_evidence: np.ndarray
    error: np.ndarray
    overlap: np.ndarray


def estimate(inverse_temperatures: np.ndarray, curves: Sequence[Curve]) -> FreeEnergy:
    """Estimate log normalisers from the log densities of draws.

    Parameters
    ----------
    inverse_temperatures : array of shape (temperatures,)
        Ascending; the normaliser is known at the first.
    curves : sequence of Curve
        Curves of the draws at each, with equal numbers of chains and draws. Chain i is the same
        chain at every temperature, and independent of all others.

    References
    ----------
    C. J. Geyer, Estimating normalizing constants and reweighting mixtures, 1994.

    M. R. Shirts and J. D. Chodera, Statistically optimal analysis of samples from multiple
    equilibrium states, 2008. :doi:`10.1063/1.2978177`

    Standard errors are those of an M-estimator, clustered by chain: K.-Y. Liang and S. L. Zeger,
    Longitudinal data analysis using generalized linear models, 1986. :doi:`10.1093/biomet/73.1.13`
    """
    beta, (num_chains, num_draws) = np.asarray(inverse_temperatures), curves[0].linear.shape
    count = len(beta)
    # Log densities are relative to a level near the posterior's, so that log normalisers are
    # moderate.
    level = curves[-1].slope(beta[-1]).mean()
    densities = np.stack([[curve.at(b) - b * level for curve in curves] for b in beta])
    flat = densities.transpose(2, 0, 1, 3).reshape(num_chains, count, -1)
    total = num_chains * count * num_draws

    def shares(intercepts: np.ndarray):
        """Yield by blocks each temperature's probability for every draw, and log of their sum."""
        free = np.append(0.0, intercepts)[:, None]
        for chain, values in enumerate(flat):
            for start in range(0, values.shape[1], _DRAWS_AT_ONCE):
                exponents = free + values[:, start : start + _DRAWS_AT_ONCE]
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

    slopes = np.array([curve.slope(b).mean() for b, curve in zip(beta, curves, strict=True)])
    start = -np.cumsum(np.diff(beta) * ((slopes[1:] + slopes[:-1]) / 2 - level))
    found = minimize(objective, start, jac=True, hess=hessian, method="trust-exact", tol=1e-9)
    scores = np.zeros((num_chains, count))
    for chain, share, _ in shares(found.x):
        scores[chain] += share.sum(axis=1)
    scores = (scores - num_draws)[:, 1:] / total
    inverse = np.linalg.pinv(hessian(found.x), hermitian=True)
    moved = scores @ inverse
    spread = num_chains / (num_chains - 1) * (moved**2).sum(axis=0)
    log_ratio = np.append(0.0, -found.x)
    return FreeEnergy(
        log_ratio + (beta - beta[0]) * level,
        np.append(0.0, np.sqrt(spread)),
        np.array([_overlap(densities, log_ratio, low) for low in range(count - 1)]),
    )


def _overlap(densities: np.ndarray, log_ratio: np.ndarray, low: int) -> float:
    """Compute the overlap of neighbouring temperatures, by log density ratios of their draws."""
    pair, both = densities[low + 1] - densities[low], slice(low, low + 2)
    below, above = pair[both] - np.diff(log_ratio)[low]
    taken_for_upper = 1 / (1 + np.exp(-np.clip(below, -700, 700)))
    taken_for_lower = 1 / (1 + np.exp(np.clip(above, -700, 700)))
    return float((taken_for_upper.mean() + taken_for_lower.mean()) / 2)


def next_temperature(inverse_temperature: float, curve: Curve, share: float) -> float:
    """Find a ladder's next temperature, maybe beyond 1, at which this share of draws still counts.

    Parameters
    ----------
    inverse_temperature : float
        Inverse temperature of the draws.
    curve : Curve
        Their log densities.
    share : float
        Effective sample size of the reweighted draws over their number.

    References
    ----------
    A. Jasra, D. A. Stephens, A. Doucet and T. Tsagaris, Inference for Lévy-driven stochastic
    volatility models via adaptive sequential Monte Carlo, 2011.
    :doi:`10.1111/j.1467-9469.2010.00723.x`
    """
    here = curve.at(inverse_temperature)

    def enough(step: float) -> bool:
        log_weights = curve.at(inverse_temperature + step) - here
        log_ess = 2 * logsumexp(log_weights) - logsumexp(2 * log_weights)
        return bool(log_ess >= np.log(share * here.size))

    low = high = _LONGEST_STEP
    while not enough(low):
        low, high = low / 2, low
    # A step may be of any order of magnitude, hence the bisection of its logarithm.
    for _ in range(20):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if enough(middle) else (low, middle)
    return inverse_temperature + low


def reliability_issues(ladder: Mapping[Any, Any]) -> str:
    """Say why the evidence of a ladder is not reliable, from its group `tempered`."""
    value, coarse, error = (
        float(ladder[name][-1])
        for name in ("log_evidence", "log_evidence_coarse", "log_evidence_se")
    )
    moved = abs(value - coarse)
    overlap, rhat = float(np.nanmin(ladder["overlap"])), float(ladder["rhat"][-1])
    reasons = []
    if overlap < _MIN_OVERLAP:
        reasons.append(
            f"neighbouring temperatures share too few draws (overlap {overlap:.2g} of 0.5): raise "
            "num_temperatures"
        )
    if rhat > _MAX_RHAT and _MIN_ERRORS_OF_LAG * error > _NEGLIGIBLE_NATS:
        reasons.append(
            f"chains disagree about it (R-hat {rhat:.2f}): raise num_samples or num_temperatures"
        )
    if moved > max(_MAX_ERRORS_MOVED * error, _NEGLIGIBLE_NATS):
        reasons.append(
            f"every second temperature alone gives {moved:.2g} nats less or more: raise "
            "num_temperatures"
        )
    return "; ".join(reasons)
