"""The evidence of networks, which has no closed form, against other estimators and longer runs."""

from functools import cache

import numpy as np
import pytest
from scipy import stats

import particles
import references
import weightprior as wp
from assertions import FALSE_ALARM, assert_estimate
from problems import NET, Problem, of_reference

NUM_PARTICLE_RUNS, NUM_REPEATS = 8, 100
# Ninety-six chains, as of six fits, and eight times the draws: an error of a fifth or less.
LONG = {"num_samples": 1600, "num_chains": 96, "rng_key": 1, "log_likelihood": False}


def waves():
    """Sixty-one weights, and data that determine them far better than the prior."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-2, 2, 100))[:, None]
    y = np.sin(3 * x[:, 0]) + 0.1 * rng.normal(size=100)
    return Problem(wp.BNN(wp.mlp(1, hidden=(20,)), wp.Gaussian(noise=0.1)), x, y)


CASES = {
    "2-3-1": lambda: (NET, NET.prior()),
    "1-20-1": lambda: (waves(), waves().prior()),
    "sk_diab1d": lambda: of_reference("sk_diab1d"),
    "sk_iris": lambda: of_reference("sk_iris"),
}


def tempered(case, **options):
    problem, prior = CASES[case]()
    return wp.fit_tempered(problem.bnn, problem.x, problem.y, prior=prior, **options)


@cache
def long_run(case):
    return wp.log_evidence(tempered(case, **LONG))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sk_diab1d", "sk_iris"])
def test_the_expected_log_likelihood_is_that_of_fbm(name):
    theirs = references.load(name).functionals["log_likelihood"]
    ours = tempered(name)["tempered"].isel(temperature=-1)
    error = np.hypot(ours["expected_log_likelihood_se"], theirs["mcse_mean"])
    assert_estimate(ours["expected_log_likelihood"], theirs["mean"], error, num_comparisons=1)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_particles_and_longer_chains_give_the_same_evidence(case):
    """Particles are blackjax's sequential Monte Carlo, which shares only the density with ours."""
    problem, prior = CASES[case]()
    found, longer = wp.log_evidence(tempered(case)), long_run(case)
    runs = [particles.log_evidence(*problem, prior, seed) for seed in range(NUM_PARTICLE_RUNS)]
    spread = np.std(runs, ddof=1) / np.sqrt(NUM_PARTICLE_RUNS)
    assert found["reliable"], found["reason"].item()
    assert longer["reliable"], longer["reason"].item()
    others = {
        "particles": (np.mean(runs), spread, NUM_PARTICLE_RUNS - 1),
        "longer": (longer["log_evidence"].item(), longer["error"].item(), 95),
    }
    for name, (value, error, freedom) in others.items():
        difference = abs(found["log_evidence"].item() - value)
        k = stats.t.isf(FALSE_ALARM / 2, min(freedom, 15))
        assert difference < k * np.hypot(found["error"].item(), error), name
        assert difference < 0.2, name


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_error_bars_cover_the_value_of_a_long_run(case):
    """Ninety of a hundred intervals that are to cover it with 95 %, at the least."""
    longer = long_run(case)
    found = [
        wp.log_evidence(tempered(case, rng_key=10 + i, progress_bar=False))
        for i in range(NUM_REPEATS)
    ]
    values, errors = (
        np.array([one[name].item() for one in found]) for name in ("log_evidence", "error")
    )
    half = stats.t.isf(0.025, 15) * errors
    covered = np.abs(values - longer["log_evidence"].item()) <= half
    assert covered.sum() >= 90
