import numpy as np
import pytest

import weightprior as wp
from assertions import assert_estimate
from oracle import to_sites
from problems import LINEAR, LINEAR_PRIORS, NET, exact
from shared_fits import EXACT, FRAME, REGRESSION, TARGET, drawn, exact_fit, light_fit
from shared_fits import LINEAR as TWO_FEATURES


def test_a_linear_model_meets_the_closed_form():
    prior = LINEAR.prior(**LINEAR_PRIORS["around a centre per weight"])
    optimum = to_sites(exact(prior).map[None, None])
    fit = light_fit(LINEAR.bnn, LINEAR.x, LINEAR.y, optimum, prior=prior)
    found = wp.diagnostics.effective_parameters(LINEAR.bnn, fit, LINEAR.x, LINEAR.y)
    np.testing.assert_allclose(found["gamma"], exact(prior).effective_parameters, rtol=1e-9)


def test_wider_priors_leave_more_parameters_to_the_data():
    scales = (0.01, 0.1, 1.0, 10.0)
    path = wp.stack_priors({scale: NET.prior(scale=scale) for scale in scales})
    fit = wp.fit_map(NET.bnn, NET.x, NET.y, prior=path, max_iterations=20_000)
    found = wp.diagnostics.effective_parameters(NET.bnn, fit, NET.x, NET.y)
    number = sum(int(np.prod(site.shape)) for site in NET.bnn.sites.values())
    values = found["gamma"].to_numpy()
    assert list(found["prior"].to_numpy()) == list(scales)
    assert np.all(np.diff(values) > 0)
    assert values[0] > 0
    # Fifteen rows determine no more than fifteen parameters.
    assert values[-1] < min(number, len(NET.y))
    np.testing.assert_allclose(found["gamma_by_layer"].sum("layer"), values, rtol=1e-12)


@pytest.mark.parametrize("method", ["map", "hmc"])
@pytest.mark.parametrize("prior", ["single", "strings"])
def test_every_fit_has_an_answer(method, prior):
    found = wp.diagnostics.effective_parameters(REGRESSION, drawn(method, prior), FRAME, TARGET)
    assert ("prior" in found.dims) == (prior != "single")
    assert list(found["layer"].to_numpy()) == ["hidden_0", "output"]
    assert np.all((found["gamma"] > 0) & (found["gamma"] < 13))


def test_weighted_rows_count_as_they_were_drawn():
    counts = np.repeat([2.0, 0.0, 1.0], 5)
    fit = wp.fit_map(NET.bnn, NET.x, NET.y, prior=NET.prior(), row_weights=counts)
    weighted = wp.diagnostics.effective_parameters(NET.bnn, fit, NET.x, NET.y)
    rows = np.repeat(np.arange(15), counts.astype(int))
    again = wp.fit_map(NET.bnn, NET.x[rows], NET.y[rows], prior=NET.prior())
    repeated = wp.diagnostics.effective_parameters(NET.bnn, again, NET.x[rows], NET.y[rows])
    # Both fits are optima to a gradient of 1e-6 per unit.
    np.testing.assert_allclose(weighted["gamma"], repeated["gamma"], rtol=1e-5)
    with pytest.raises(ValueError, match="x: expected the 15 rows that were fitted"):
        wp.diagnostics.effective_parameters(NET.bnn, fit, NET.x[:9], NET.y[:9])


def counted():
    return wp.diagnostics.effective_parameters(TWO_FEATURES, exact_fit(), FRAME, TARGET)


def test_what_draws_of_a_linear_model_contract_by_is_gamma():
    """With posterior covariance S and prior precision P: k - tr(S P)."""
    found = counted()
    share = EXACT.covariance / np.square(EXACT.scale)
    np.testing.assert_allclose(EXACT.effective_parameters, 3 - np.trace(share), rtol=1e-9)
    # The sum of weighted squares of a normal vector has the variance 2 tr((S P)^2).
    error = np.sqrt(2 * np.trace(share @ share) / 1000)
    assert_estimate(found["contracted"], EXACT.effective_parameters, error)
    np.testing.assert_allclose(found["contracted_by_layer"].sum(), found["contracted"])
    np.testing.assert_allclose(found["gamma"], EXACT.effective_parameters, rtol=1e-9)


def test_p_loo_of_a_linear_model_meets_the_closed_form():
    """The log density of rows with themselves less that without, both known."""
    prior = LINEAR.prior(**LINEAR_PRIORS["around a centre per weight"])
    known, rng = exact(prior), np.random.default_rng(1)
    expected = (known.log_predictive(LINEAR.x, LINEAR.y) - known.loo).sum()
    draws = rng.multivariate_normal(known.mean, known.covariance, (200, 1000))
    fit = light_fit(LINEAR.bnn, LINEAR.x, LINEAR.y, to_sites(draws[:4]), prior=prior)
    found = wp.diagnostics.effective_parameters(LINEAR.bnn, fit, LINEAR.x, LINEAR.y)
    # What sets of a thousand draws make of the two by importance sampling; the fit has four.
    terms = known.log_likelihood(draws)
    replicates = (np.log(np.exp(terms).mean(1)) + np.log(np.exp(-terms).mean(1))).sum(-1)
    error = replicates.std(ddof=1) / 2
    assert error < 0.1
    assert_estimate(found["p_loo"], expected, error)


def test_contraction_is_that_of_the_diagnostic():
    fit = drawn("hmc", "strings")
    found = wp.diagnostics.effective_parameters(REGRESSION, fit, FRAME, TARGET)
    shares = wp.diagnostics.contraction(REGRESSION, fit)["contraction_by_layer"]
    np.testing.assert_allclose(found["contracted_by_layer"], shares * [9, 4], rtol=1e-12)
    assert found["p_loo"].dims == ("prior",)
    assert np.isfinite(found["p_loo"]).all()


def test_exchanged_labels_hide_what_is_known_until_they_are_aligned():
    """Units that chains name differently look as wide as they are apart."""
    fit = drawn("hmc").copy(deep=True)
    exchanged = fit["posterior"].to_dataset()
    order, sites = [2, 0, 1], ("hidden_0.weight", "hidden_0.bias", "output.weight")
    for name in sites:
        values = exchanged[name].to_numpy().copy()
        axis = -2 if name == "output.weight" else -1
        values[1] = np.take(values[1], order, axis=axis)
        exchanged[name] = exchanged[name].copy(data=values)
    aligned = wp.diagnostics.align(REGRESSION, fit)
    fit["posterior"] = exchanged
    again = wp.diagnostics.align(REGRESSION, fit)
    of = [
        wp.diagnostics.effective_parameters(REGRESSION, f, FRAME, TARGET) for f in (aligned, again)
    ]
    np.testing.assert_allclose(of[0]["contracted"], of[1]["contracted"], rtol=1e-6)
    for name in ("gamma", "p_loo"):
        np.testing.assert_allclose(of[0][name], of[1][name], rtol=1e-6)


def test_a_point_has_neither_draws_to_contract_nor_to_reweight():
    found = wp.diagnostics.effective_parameters(REGRESSION, drawn("map"), FRAME, TARGET)
    for name in ("contracted", "contracted_by_layer", "p_loo"):
        assert np.isnan(found[name]).all()
    assert np.isfinite(found["gamma"])
