"""Successes among trials: predicted, scored, simulated and stored with their trials."""

from functools import cache, partial

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from scipy.special import expit, logsumexp

import weightprior as wp
from assertions import assert_estimate
from problems import FITTERS, NET
from shared_fits import ROUNDING, made_fit, random_weights

RNG = np.random.default_rng(0)
BNN = wp.BNN(wp.mlp(2, hidden=()), wp.Binomial())
X = RNG.normal(size=(12, 2))
TRIALS = RNG.integers(1, 30, 12)
SUCCESSES = RNG.binomial(TRIALS, expit(X[:, 0]))
Y = np.column_stack([SUCCESSES, TRIALS - SUCCESSES])
WEIGHTS = random_weights(BNN, RNG, (2, 200))
LOGITS = (np.einsum("nf,cdfo->cdno", X, WEIGHTS["output.weight"]))[..., 0] + WEIGHTS["output.bias"]


@cache
def fit():
    """Draws that are known: what is computed from them has a closed form."""
    return made_fit(BNN, X, Y, WEIGHTS)


def test_a_fit_keeps_both_columns_and_what_they_are_called(tmp_path):
    observed = fit()["observed_data"]["y"]
    assert observed.dims == ("obs_id", "outcome")
    assert observed["outcome"].to_numpy().tolist() == ["success", "failure"]
    np.testing.assert_array_equal(observed, Y)
    frame = pd.DataFrame(Y, columns=["cases", "controls"])
    named = made_fit(BNN, X, frame, WEIGHTS)
    assert named["observed_data"]["outcome"].to_numpy().tolist() == ["cases", "controls"]
    named.to_netcdf(tmp_path / "fit.nc")
    again = az.from_netcdf(tmp_path / "fit.nc")
    for group in named.children:
        xr.testing.assert_identical(again[group].to_dataset(), named[group].to_dataset())
    xr.testing.assert_identical(wp.score(BNN, again, X, Y), wp.score(BNN, fit(), X, Y))


def test_predictions_are_of_one_trial_or_of_as_many_as_are_told():
    one, many = wp.predict(BNN, fit(), X), wp.predict(BNN, fit(), X, trials=TRIALS)
    np.testing.assert_allclose(one["mean"], expit(LOGITS), **ROUNDING)
    np.testing.assert_allclose(many["mean"], TRIALS * expit(LOGITS), **ROUNDING)
    assert set(np.unique(one["y"])) == {0, 1}
    assert one["y"].dtype == many["y"].dtype == np.int64
    assert np.all((many["y"] >= 0) & (many["y"] <= TRIALS))
    for found, trials in ((one, 1), (many, TRIALS)):
        surplus = (found["y"] - found["mean"]).to_numpy().mean(axis=(0, 1))
        variance = (trials * expit(LOGITS) * expit(-LOGITS)).mean(axis=(0, 1))
        assert_estimate(surplus, np.zeros(12), np.sqrt(variance / 400))


def test_scores_are_of_the_successes_given_their_trials():
    found = wp.score(BNN, fit(), X, Y)
    law = stats.binom(TRIALS, expit(LOGITS))
    terms = logsumexp(law.logpmf(SUCCESSES), axis=(0, 1)) - np.log(400)
    np.testing.assert_allclose(found["elpd_i"], terms, **ROUNDING)
    mean = (TRIALS * expit(LOGITS)).mean(axis=(0, 1))
    rmse = np.sqrt(np.mean((mean - SUCCESSES) ** 2))
    np.testing.assert_allclose(found["rmse"], rmse, **ROUNDING)
    # A count's probability is spread evenly over its step of the distribution function.
    low, high = (law.cdf(SUCCESSES - step).mean(axis=(0, 1)) for step in (1, 0))
    for level in (0.5, 0.9):
        edges = (1 - level) / 2, (1 + level) / 2
        inside = np.minimum(high, edges[1]) - np.maximum(low, edges[0])
        expected = np.mean(np.clip(inside, 0, None) / (high - low))
        np.testing.assert_allclose(found["coverage"].sel(level=level), expected, **ROUNDING)
    # CRPS is the sum over counts of the squared distance of both distribution functions.
    counts = np.arange(30)
    cdf = stats.binom(TRIALS[:, None], expit(LOGITS)[..., None]).cdf(counts).mean(axis=(0, 1))
    crps = ((cdf - (counts >= SUCCESSES[:, None])) ** 2).sum(axis=1)
    # Both of its terms are means over 4,000 draws, of distances whose sd is that of a draw at most.
    variance = law.var().mean(axis=(0, 1)) + law.mean().var(axis=(0, 1))
    assert_estimate(found["crps"], crps.mean(), 2 * np.sqrt(variance.sum() / 4000) / 12)


def test_leave_one_out_and_comparisons_are_by_row():
    table = wp.compare(BNN, {"made": fit()}, X, Y)
    assert np.isfinite(table.loc["made", ["elpd_loo", "lpd_test", "rmse"]].astype(float)).all()
    assert fit()["log_likelihood"].sizes["obs_id"] == 12


def test_simulated_targets_have_the_trials_that_are_told():
    prior = wp.normal_prior(BNN)
    weights, y = wp.simulate(BNN, X, prior=prior, trials=TRIALS)
    np.testing.assert_array_equal(y.sum(axis=1), TRIALS)
    again, single = wp.simulate(BNN, X, prior=prior)
    np.testing.assert_array_equal(single.sum(axis=1), 1)
    np.testing.assert_array_equal(again["output.weight"], weights["output.weight"])
    drawn = wp.prior_predictive(BNN, X, prior=prior, num_samples=1, trials=TRIALS)
    np.testing.assert_array_equal(drawn["prior_predictive"]["y"][0, 0], y[:, 0])
    BNN.likelihood.check_target(y, 12, 1)


@pytest.mark.slow
def test_conflict_is_judged_by_data_sets_of_the_same_trials():
    # All fail where the prior is sure that all succeed.
    prior = wp.normal_prior(BNN, loc={"weight": 0.0, "bias": 3.0}, scale=0.1)
    none = np.column_stack([np.zeros(12), TRIALS])
    for y, conflict in ((none, True), (none[:, ::-1], False)):
        given = made_fit(BNN, X, y, WEIGHTS, prior=prior)
        found = wp.diagnostics.prior_data_conflict(BNN, given, X, y, num_samples=100)
        assert found["conflict"].item() == conflict


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        (np.ones(11), r"trials: expected shape \(12,\), a number for every row of x; got \(11,\)"),
        (np.full(12, 1.5), "trials: expected whole numbers of at least 1; got 1.5"),
        (np.zeros(12), "trials: expected whole numbers of at least 1; got 0"),
        (np.full(12, np.nan), "trials: expected finite numbers"),
    ],
)
def test_wrong_trials(trials, message):
    with pytest.raises(ValueError, match=message):
        wp.predict(BNN, fit(), X, trials=trials)
    with pytest.raises(ValueError, match=message):
        wp.simulate(BNN, X, prior=wp.normal_prior(BNN), trials=trials)


def test_another_likelihood_has_no_trials():
    bnn = wp.BNN(BNN.network, wp.Poisson())
    prior, told = wp.normal_prior(bnn), {"trials": np.ones(12)}
    for use in (
        lambda: wp.prior_predictive(bnn, X, prior=prior, **told),
        lambda: wp.simulate(bnn, X, prior=prior, **told),
        lambda: wp.simulation_based_calibration(bnn, X, prior=prior, fit=wp.fit_mcmc, **told),
    ):
        with pytest.raises(ValueError, match=r"^trials: expected None.*Poisson\(\).*Leave"):
            use()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit_mcmc:UserWarning")  # ranks need fewer draws
@pytest.mark.parametrize(
    ("likelihood", "trials"),
    [
        (wp.Binomial(), RNG.integers(1, 20, 15)),
        (wp.NegativeBinomial(), None),
        (wp.NegativeBinomial(concentration=1.5), None),
    ],
    ids=["Binomial", "NegativeBinomial", "known concentration"],
)
def test_counts_are_calibrated(likelihood, trials):
    bnn = wp.BNN(NET.bnn.network, likelihood)
    options = {"num_warmup": 300, "num_samples": 250, "target_accept_prob": 0.95}
    found = wp.simulation_based_calibration(
        bnn,
        NET.x,
        prior=wp.normal_prior(bnn, loc=0.2, scale=0.7),
        fit=partial(FITTERS["hmc"], progress_bar=False, **options),
        level=1e-3,
        trials=trials,
    )
    assert found["calibrated"], found[[name for name in found if "p_value" in str(name)]]
