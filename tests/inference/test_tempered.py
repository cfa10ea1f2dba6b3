"""Evidence by a ladder of temperatures: closed forms, other estimators, and what can go wrong."""

from functools import partial

import jax
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import oracle
import weightprior as wp
from assertions import FALSE_ALARM, assert_mean, assert_sd
from problems import (
    CENTRE,
    LINEAR,
    NET,
    SHARED,
    VAGUE,
    assert_moving_the_prior_moves_the_weights,
)
from weightprior.inference import tempered

PRIORS = {
    "around 0": LINEAR.prior(scale=0.7),
    "around a centre per weight": LINEAR.prior(loc=CENTRE, scale={"weight": 0.3, "bias": 2.0}),
}
COUNTS = np.tile([2.0, 0.0, 1.0, 1.0], 10)
# So many temperatures are enough for one layer, and take less time than the default.
SHORT = {"num_temperatures": 24, "log_likelihood": False}
BRIEF = {"num_temperatures": 5, "num_samples": 10, "num_chains": 4}


def fit(problem, prior, **options):
    return wp.fit_tempered(problem.bnn, problem.x, problem.y, prior=prior, **options)


def fit_linear(prior, **options):
    """In double precision, with which one test compares to many digits."""
    with jax.enable_x64(True):
        return fit(LINEAR, prior, **options)


@pytest.fixture(scope="module")
def linear():
    """Of rows that do not all count the same: one that counts twice is there twice."""
    return fit_linear(wp.stack_priors(PRIORS), row_weights=COUNTS, num_samples=400, **SHORT)


def known(label):
    """Its closed form."""
    rows, numbers = np.repeat(np.arange(40), COUNTS.astype(int)), PRIORS[label]
    return oracle.LinearGaussian(
        LINEAR.x[rows], LINEAR.y[rows], 0.4,
        oracle.from_sites(numbers.loc), oracle.from_sites(numbers.scale),
    )  # fmt: skip


def assert_evidence(fit, expected, most=0.1):
    """Within the stated error, which is judged by the fit's chains, and small enough."""
    found = wp.log_evidence(fit)
    freedom = fit["posterior"].sizes["chain"] - 1
    error = found["error"].to_numpy()
    k = stats.t.isf(FALSE_ALARM / (2 * error.size), freedom)
    assert (np.abs(found["log_evidence"].to_numpy() - expected) < k * error).all()
    assert (error < most).all()
    assert found["reliable"].all(), found["reason"].to_numpy()


def test_evidence_of_a_linear_model_is_its_closed_form(linear):
    """And rows count as often as they are told."""
    assert_evidence(linear, [known(label).log_evidence for label in PRIORS])


def test_at_temperature_one_there_is_the_posterior(linear):
    for label, part in wp.unstack_fit(linear).items():
        draws, there = oracle.from_sites(part["posterior"]), known(label)
        assert draws.shape == (16, 400, 4)
        assert_mean(draws, there.mean, num_comparisons=16, label=label)
        assert_sd(draws, there.sd, num_comparisons=16, label=label)


def test_the_expected_log_likelihood_never_falls(linear):
    ladder = linear["tempered"]
    expected, error = (
        ladder[name].transpose("prior", "temperature").to_numpy()
        for name in ("expected_log_likelihood", "expected_log_likelihood_se")
    )
    rise = np.diff(expected, axis=1)
    assert (rise > -5 * np.hypot(error[:, 1:], error[:, :-1])).all()
    # Its integral is the evidence, the slope of which it is.
    beta = ladder["inverse_temperature"].transpose("prior", "temperature").to_numpy()
    low, high = (
        (np.diff(beta) * values).sum(axis=1) for values in (expected[:, :-1], expected[:, 1:])
    )
    evidence = wp.log_evidence(linear)["log_evidence"].to_numpy()
    assert (low < evidence).all()
    assert (evidence < high).all()


@pytest.mark.slow
def test_a_learned_centre_meets_its_closed_form():
    base = SHARED.base
    # Centre and weights move together, so slowly that with fewer draws chains agree by luck.
    found = fit(LINEAR, SHARED, num_samples=800, **SHORT)
    unit, columns = oracle.from_sites(base.scale), oracle.design(LINEAR.x)
    spread = np.diag(unit**2) + 1.5**2 * np.outer(unit, unit)
    mean = columns @ (oracle.from_sites(base.loc) + 0.4 * unit)
    covariance = columns @ spread @ columns.T + 0.4**2 * np.eye(40)
    assert_evidence(found, stats.multivariate_normal(mean, covariance).logpdf(LINEAR.y))
    assert "center.all" in found["posterior"]


def test_moving_the_prior_moves_the_weights():
    assert_moving_the_prior_moves_the_weights("tempered")


@pytest.mark.slow
def test_without_data_the_evidence_is_that_of_the_noise():
    prior = VAGUE.prior(loc={"weight": -3.0, "bias": 5.0}, scale={"weight": 2.0, "bias": 0.01})
    found = fit(VAGUE, prior, **BRIEF)
    expected = stats.norm.logpdf(VAGUE.y, 0.0, 1e8).sum()
    np.testing.assert_allclose(wp.log_evidence(found)["log_evidence"], expected, rtol=1e-9)
    np.testing.assert_allclose(found["tempered"]["overlap"][:-1], 0.5)


def test_a_ladder_with_gaps_is_made_finer():
    few = {"num_temperatures": 2, "num_samples": 50}
    with pytest.warns(UserWarning, match="fit_tempered: The evidence.*raise num_temperatures"):
        found = fit_linear(PRIORS["around 0"], **few)
    ladder = found["tempered"]
    assert ladder.sizes["temperature"] == 2
    assert ladder["inserted"].to_numpy().tolist() == [2**tempered._MAX_ROUNDS - 1, 0]
    assert np.isfinite(ladder["log_evidence_coarse"]).all()
    verdict = wp.log_evidence(found)
    assert not verdict["reliable"]
    assert "raise num_temperatures" in verdict["reason"].item()


def test_an_interrupt_leaves_the_evidence_and_the_draws_there_are(monkeypatch):
    brief = partial(fit_linear, PRIORS["around 0"], **BRIEF | {"num_samples": 60})
    whole = brief()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(tempered.Sampler, "extend", interrupted)
    with pytest.warns(UserWarning, match="50 of 60 draws"):
        part = brief()
    xr.testing.assert_identical(part["tempered"].dataset, whole["tempered"].dataset)
    first = whole["posterior"].to_dataset().isel(draw=slice(50))
    xr.testing.assert_identical(part["posterior"].to_dataset(), first)


def test_the_fit_is_saved_and_read(tmp_path, linear):
    linear.to_netcdf(tmp_path / "fit.nc")
    again = xr.open_datatree(tmp_path / "fit.nc")
    xr.testing.assert_identical(wp.log_evidence(again), wp.log_evidence(linear))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prior": NET.prior(scale={"weight": 1.0, "bias": np.inf})}, ValueError, "flat prior"),
        ({"num_temperatures": 0}, ValueError, "num_temperatures"),
        ({"num_temperatures": 1}, ValueError, "num_temperatures"),
        ({"num_samples": 0}, ValueError, "num_samples"),
        ({"num_chains": 1}, ValueError, "num_chains"),
        ({"prior": None}, TypeError, "prior"),
    ],
)
def test_bad_input_is_refused(options, error, message):
    given = {"prior": NET.prior()} | options
    with pytest.raises(error, match=message):
        wp.fit_tempered(NET.bnn, NET.x, NET.y, **given)
