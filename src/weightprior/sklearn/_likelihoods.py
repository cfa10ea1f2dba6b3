"""Likelihoods of a regressor, by name or as an instance, and their numbers of outputs."""

from typing import Any

import weightprior as wp
from weightprior import _checks

__all__ = ["likelihood_of", "outputs_for"]

LIKELIHOODS = {
    "gaussian": wp.Gaussian,
    "student_t": wp.StudentT,
    "heteroscedastic": wp.HeteroscedasticGaussian,
    "poisson": wp.Poisson,
    "negative_binomial": wp.NegativeBinomial,
}


def likelihood_of(given: Any) -> wp.Likelihood:
    """Return the likelihood for a name or an instance; raise for anything else."""
    if isinstance(given, str):
        _checks.one_of("likelihood", given, LIKELIHOODS)
        return LIKELIHOODS[given]()
    if not hasattr(given, "has_classes") or isinstance(given, type):
        raise TypeError(
            f"likelihood: expected one of {_checks.several(LIKELIHOODS)}, or an instance such as "
            f"weightprior.Gaussian(); got {given!r}."
        )
    if given.has_classes or given.columns:
        advice = "BayesianMLPClassifier" if given.has_classes else "weightprior.fit_map"
        raise ValueError(
            f"likelihood: expected one for numbers, with a column per target; got {given!r}. "
            f"Take {advice}."
        )
    return given


def outputs_for(likelihood: wp.Likelihood, num_targets: int) -> int:
    """Return the number of outputs that a network needs for this number of targets."""
    for number in range(1, 4 * num_targets + 1):
        if likelihood.num_targets(number) == num_targets:
            return number
    raise ValueError(f"likelihood: expected one for {num_targets} targets; got {likelihood!r}.")
