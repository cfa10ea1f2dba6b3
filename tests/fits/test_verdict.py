"""The wording of verdicts, from numbers given outright."""

import numpy as np
import pytest

from weightprior.fits.verdict import Measured, message, problems_of

NUM_CHAINS, NUM_DRAWS = 4, 1000


def verdict(num_chains=NUM_CHAINS, num_draws=NUM_DRAWS, target=0.8, **numbers):
    """Chains without a difference, and whatever else is given."""
    half = np.random.default_rng(0).normal(size=(num_draws // 2, 3))
    good = {"rhat": np.full((3, 1), 1.0), "rhat_lp": 1.0, "divergences": np.zeros(num_chains)}
    good |= {f"ess_{kind}": np.full((3, 1), 2000.0) for kind in ("bulk", "tail")}
    good |= {f"ess_{kind}_lp": 2000.0 for kind in ("bulk", "tail")}
    measured = Measured(
        series=np.broadcast_to(np.concatenate([half, -half]), (num_chains, num_draws, 3)),
        apart=np.zeros((num_chains, 3)),
        moved=np.ones(num_chains, bool),
        numbers=good | numbers,
        chains=list(range(num_chains)),
        target_accept_prob=target,
    )
    return message(measured, problems_of(measured))


def test_converged():
    assert verdict(rhat=np.array([[1.004]])) == (
        "Converged: R-hat at most 1.004, at least 2,000 effective draws."
    )


@pytest.mark.parametrize("name", ["ess_bulk", "ess_tail", "ess_bulk_lp", "ess_tail_lp"])
def test_every_kind_of_effective_draws_counts(name):
    assert verdict(**{name: np.float64(85.0)}) == (
        "Too few draws: 85 effective draws where 400 are wanted; raise num_samples to 4,800."
    )


@pytest.mark.parametrize("name", ["rhat", "rhat_lp"])
def test_every_rhat_counts(name):
    assert verdict(**{name: np.float64(1.0234)}) == (
        "Not converged: R-hat 1.023 where at most 1.01 is wanted; raise num_samples to 2,000."
    )


def test_an_rhat_just_above_the_limit_does_not_read_as_the_limit():
    assert "R-hat 1.011 where at most 1.01 is wanted" in verdict(rhat=np.float64(1.0101))


def test_rhat_beside_few_draws():
    said = verdict(rhat=np.float64(1.234), ess_bulk=np.float64(399.9))
    assert "399 effective draws where 400 are wanted (R-hat 1.23)" in said


@pytest.mark.parametrize(
    ("limit", "good", "bad"),
    [("rhat", 1.01, 1.011), ("ess_bulk", 400.0, 399.0), ("bfmi", 0.3, 0.29)],
)
def test_limits(limit, good, bad):
    shape = NUM_CHAINS if limit == "bfmi" else (3, 1)
    assert verdict(**{limit: np.full(shape, good)}).startswith("Converged")
    assert not verdict(**{limit: np.full(shape, bad)}).startswith("Converged")


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        (0.8, "raise target_accept_prob to 0.95"),
        (0.95, "raise target_accept_prob to 0.99"),
        (0.99, "raise target_accept_prob to 0.999"),
        (0.999, "standardise x and y"),
    ],
)
def test_advice_on_divergences_goes_beyond_what_was_tried(target, advice):
    said = verdict(target=target, divergences=np.array([0, 2, 0, 1]))
    assert said == f"Not converged: 3 of 4000 transitions diverged; {advice}."


@pytest.mark.parametrize(
    "numbers",
    [
        {"rhat": np.array([1.0, np.nan])},
        {"rhat_lp": np.nan},
        {"ess_tail": np.array([2000.0, np.nan])},
        {"ess_bulk_lp": np.nan},
    ],
)
def test_nan_is_no_convergence(numbers):
    assert verdict(**numbers).startswith("Not converged: an output never varies or overflows")


def test_nan_hides_neither_too_large_an_rhat_nor_too_few_draws():
    assert "R-hat 1.500" in verdict(rhat=np.array([np.nan, 1.5]))
    assert "85 effective" in verdict(rhat=np.full(2, np.nan), ess_bulk=np.array([85.0]))


@pytest.mark.parametrize(
    ("ess", "advised"), [(399.0, "1,100"), (200.0, "2,000"), (3.0, "140,000"), (390.0, "1,100")]
)
def test_advised_draws_are_rounded_up_to_two_digits(ess, advised):
    assert verdict(ess_bulk=np.float64(ess)).endswith(f"raise num_samples to {advised}.")
