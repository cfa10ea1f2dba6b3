"""Degrees of freedom that are learned: the posterior by quadrature, and every method's fit."""

from functools import cache

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import weightprior as wp
from assertions import assert_mean, assert_sd
from shared_fits import made_fit, random_weights

RNG = np.random.default_rng(4)
X = np.linspace(-1, 1, 30)[:, None]
Y = 2 * X[:, 0] + 0.3 * RNG.standard_t(2.5, size=30)
BNN = wp.BNN(wp.mlp(1, hidden=()), wp.StudentT())
_chains = {"num_warmup": 100, "num_samples": 150, "num_chains": 2}
FITS = {
    "map": (wp.fit_map, {"num_restarts": 3}),
    "hmc": (wp.fit_mcmc, _chains),
    "laplace": (wp.fit_laplace, {"num_samples": 200, "num_restarts": 3}),
    "vi": (wp.fit_vi, {"num_samples": 200}),
    "tempered": (wp.fit_tempered, {"num_temperatures": 4, "num_samples": 40, "num_chains": 4}),
    "ensemble": (wp.fit_ensemble, {"num_members": 3}),
}


@cache
def posterior_by_quadrature():
    """Mean and sd of `log_df`, of residuals whose location and scale are known."""
    at = np.linspace(-3, 9, 4001)
    log_density = stats.norm.logpdf(at, 2.5, 0.8)
    log_density += stats.t.logpdf(Y[:, None], np.exp(at)).sum(axis=0)
    weight = np.exp(log_density - log_density.max())
    mean = (weight * at).sum() / weight.sum()
    return mean, np.sqrt((weight * (at - mean) ** 2).sum() / weight.sum())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit_mcmc. its predictions never vary")
def test_the_posterior_is_that_of_quadrature():
    bnn = wp.BNN(wp.mlp(1, hidden=()), wp.StudentT(noise=1.0))
    # Weights so close to 0 that outputs do not matter.
    fit = wp.fit_mcmc(bnn, X, Y, prior=wp.normal_prior(bnn, scale=1e-6), kernel="nuts")
    mean, sd = posterior_by_quadrature()
    draws = fit["posterior"]["log_df"].to_numpy()
    assert_mean(draws, mean)
    assert_sd(draws, sd)
    np.testing.assert_allclose(fit["posterior"]["df"], np.exp(draws), rtol=1e-6)


@pytest.mark.slow
def test_made_up_draws_are_read_everywhere(tmp_path):
    weights = random_weights(BNN, np.random.default_rng(1), (2, 60))
    weights["log_df"] += 2.5
    fit = made_fit(BNN, X, Y, weights)
    read_everywhere(fit, tmp_path)
    df, noise = np.exp(weights["log_df"]), np.exp(weights["log_noise"])
    location = (X @ weights["output.weight"] + weights["output.bias"][..., None, :])[..., 0]
    terms = stats.t.logpdf(Y, df[..., None], location, noise[..., None])
    np.testing.assert_allclose(fit["log_likelihood"]["y"], terms, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("method", FITS)
@pytest.mark.filterwarnings("ignore:fit_vi. far:UserWarning")
@pytest.mark.filterwarnings("ignore:fit_mcmc:UserWarning")
def test_every_method_learns_them(method, tmp_path):
    fit, options = FITS[method]
    found = fit(BNN, X, Y, prior=wp.normal_prior(BNN), **options)
    read_everywhere(found, tmp_path)
    # The three outliers in these thirty rows; the prior's median is 12.
    assert found["posterior"]["df"].median() < 10


def read_everywhere(fit, tmp_path):
    """Save a fit, read it back, and ask all that is asked of a fit."""
    fit.to_netcdf(tmp_path / "fit.nc")
    with xr.open_datatree(tmp_path / "fit.nc") as again:
        again.load()
    assert again["posterior"]["df"].dims == ("chain", "draw")
    predicted = wp.predict(BNN, again, X)
    assert np.isfinite(predicted["y"]).all()
    scores = wp.score(BNN, again, X, Y)
    assert np.isfinite([scores["elpd"], scores["crps"], scores["rmse"]]).all()
    assert np.isfinite(wp.compare(BNN, {"fit": fit})["parameters"].to_numpy(float)).all()
