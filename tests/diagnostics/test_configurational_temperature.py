"""The configurational temperature: 1 for exact draws, more for wide ones, less for narrow ones."""

import numpy as np
import pytest

import weightprior as wp
from problems import LINEAR, NET
from shared_fits import FRAME, REGRESSION, TARGET, fitted, light_fit

temperature = wp.diagnostics.configurational_temperature


def gaussian_draws(factor, seed=0, num_draws=4000):
    """Draws around the mean of a linear model's posterior, `factor` times as wide as that."""
    prior = LINEAR.prior()
    exact = wp.fit_laplace(LINEAR.bnn, LINEAR.x, LINEAR.y, prior=prior, num_samples=num_draws)
    draws = {n: exact["posterior"][n].to_numpy() for n in LINEAR.bnn.sites}
    moved = {n: w.mean((0, 1)) + factor * (w - w.mean((0, 1))) for n, w in draws.items()}
    return light_fit(LINEAR.bnn, LINEAR.x, LINEAR.y, moved, prior=prior)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_of_a_normal_posterior_it_is_the_variance_s_factor(factor):
    """Around the mean of a normal posterior: the centre adds nothing there in expectation."""
    found = temperature(LINEAR.bnn, gaussian_draws(factor), LINEAR.x, LINEAR.y)
    away = abs(found["temperature"].item() - factor**2)
    assert away < 4 * found["temperature_se"].item() + 4 / np.sqrt(4000) * abs(factor - 1)


def test_exact_chains_have_one_in_every_layer():
    fit = wp.fit_mcmc(NET.bnn, NET.x, NET.y, prior=NET.prior(), num_samples=1000)
    found = temperature(NET.bnn, fit, NET.x, NET.y)
    for name in ("temperature", "temperature_by_layer"):
        away = np.abs(found[name] - 1) / found[f"{name}_se"]
        assert np.all(away < 4)
    assert list(found["layer"].to_numpy()) == list(NET.bnn.network.layers)


def test_row_weights_count_as_they_were_fitted():
    counts = np.repeat([2.0, 0.0, 1.0], 5)
    fit = wp.fit_mcmc(NET.bnn, NET.x, NET.y, prior=NET.prior(), row_weights=counts)
    found = temperature(NET.bnn, fit, NET.x, NET.y)
    assert abs(found["temperature"] - 1) < 4 * found["temperature_se"]


def test_linearised_draws_are_judged_by_the_network_itself():
    """As if the network's posterior were that of its linearisation, which is too wide for it."""
    fit = wp.fit_laplace(NET.bnn, NET.x, NET.y, prior=NET.prior())
    found = temperature(NET.bnn, fit, NET.x, NET.y)
    assert found["temperature"] > 1 + 4 * found["temperature_se"]


@pytest.mark.parametrize("prior", ["single", "strings"])
def test_stacked_priors_have_one_each(prior):
    found = temperature(REGRESSION, fitted("hmc", prior), FRAME, TARGET)
    assert ("prior" in found.dims) == (prior != "single")


def test_what_has_none_is_told():
    with pytest.raises(ValueError, match="got a single point, such as a MAP"):
        temperature(REGRESSION, fitted("map"), FRAME, TARGET)
    learned = wp.hierarchical_prior(REGRESSION)
    with pytest.warns(UserWarning, match="fit_mcmc"):
        fit = wp.fit_mcmc(
            REGRESSION, FRAME, TARGET, prior=learned, num_samples=20, num_warmup=20, num_chains=2
        )
    with pytest.raises(ValueError, match="got a learned prior"):
        temperature(REGRESSION, fit, FRAME, TARGET)


def test_compare_shows_it_for_draws_that_are_not_exact():
    fits = {
        "laplace": wp.fit_laplace(NET.bnn, NET.x, NET.y, prior=NET.prior()),
        "map": wp.fit_map(NET.bnn, NET.x, NET.y, prior=NET.prior()),
    }
    table = wp.compare(NET.bnn, fits)
    found = temperature(NET.bnn, fits["laplace"], NET.x, NET.y)
    assert table.loc["laplace", "temperature"] == pytest.approx(found["temperature"].item())
    assert np.isnan(table.loc["map", "temperature"])
