"""Importance weights of draws: what smoothing cannot take is never called good."""

import numpy as np
import pytest

from weightprior.fits.importance import pareto_smoothed

RATIO = np.random.default_rng(0).normal(size=400)


def with_one(value):
    changed = RATIO.copy()
    changed[7] = value
    return changed


@pytest.mark.parametrize(
    "log_ratio",
    [with_one(np.nan), with_one(np.inf), 4e36 * RATIO, 2e10 * RATIO],
    ids=["NaN", "infinite", "beyond single precision", "far apart"],
)
def test_ratios_that_overflow_have_no_good_k(log_ratio):
    with np.errstate(all="ignore"):
        _, pareto_k = pareto_smoothed(log_ratio)
    assert pareto_k > 0.7


def test_ratios_of_normal_numbers_have_a_good_one():
    assert pareto_smoothed(RATIO)[1] < 0.7
