import numpy as np
import pytest

import weightprior as wp
from fits import FRAME, REGRESSION, TARGET, fitted
from problems import LINEAR, LINEAR_PRIORS, NET, exact


def gamma(problem, prior, **options):
    fit = wp.fit_map(problem.bnn, problem.x, problem.y, prior=prior, **options)
    return wp.diagnostics.effective_parameters(problem.bnn, fit, problem.x, problem.y)


def test_a_linear_model_meets_the_closed_form():
    prior = LINEAR.prior(**LINEAR_PRIORS["around a centre per weight"])
    found = gamma(LINEAR, prior)
    np.testing.assert_allclose(found["gamma"], exact(prior).effective_parameters, rtol=1e-9)


def test_wider_priors_leave_more_parameters_to_the_data():
    scales = (0.01, 0.1, 1.0, 10.0)
    path = wp.stack_priors({scale: NET.prior(scale=scale) for scale in scales})
    found = gamma(NET, path, max_iterations=20_000)
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
    found = wp.diagnostics.effective_parameters(REGRESSION, fitted(method, prior), FRAME, TARGET)
    assert ("prior" in found.dims) == (prior != "single")
    assert list(found["layer"].to_numpy()) == ["hidden_0", "output"]
    assert np.all((found["gamma"] > 0) & (found["gamma"] < 13))


def test_weighted_rows_count_as_they_were_fitted():
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
