"""How much the data changed: against the closed form, priors flat in part, and stacks."""

import numpy as np
import pytest
import xarray as xr

import oracle
import weightprior as wp
from problems import LINEAR, NET, exact, fit


def test_of_a_linear_model_it_is_the_closed_form():
    prior = LINEAR.prior(loc=0.5, scale=2.0)
    found = wp.diagnostics.contraction(LINEAR.bnn, fit("hmc", LINEAR, prior))
    posterior = exact(prior)

    def flat(kind):
        parts = {n: found[f"{kind}.{n}"].to_numpy()[None, None] for n in LINEAR.bnn.sites}
        return oracle.from_sites(parts)[0, 0]

    # Effectively a thousand draws at least.
    share = (posterior.sd / 2.0) ** 2
    np.testing.assert_allclose(flat("contraction"), 1 - share, atol=5 * share.max() * np.sqrt(2e-3))
    expected = (posterior.mean - 0.5) / 2.0
    np.testing.assert_allclose(flat("z_score"), expected, atol=5 * posterior.sd.max() / 2 / 31)
    by_layer = found.sel(layer="output")
    np.testing.assert_allclose(by_layer["contraction_by_layer"], flat("contraction").mean())
    root = np.sqrt(np.square(flat("z_score")).mean())
    np.testing.assert_allclose(by_layer["distance_by_layer"], root)


# What chains so short are in doubt of is not what is tested.
@pytest.mark.filterwarnings("ignore:fit_mcmc")
def test_a_flat_prior_contracts_to_nothing_and_has_no_centre():
    prior = NET.prior(scale={"weight": 1.0, "bias": np.inf})
    found = wp.diagnostics.contraction(NET.bnn, fit("hmc", NET, prior, num_samples=50))
    assert (found["contraction.hidden_0.bias"] == 1.0).all()
    assert np.isnan(found["z_score.hidden_0.bias"]).all()
    assert np.isfinite(found["distance_by_layer"]).all()


def test_one_draw_has_no_variance():
    found = wp.diagnostics.contraction(NET.bnn, fit("map", NET, NET.prior()))
    assert np.isnan(found["contraction.output.weight"]).all()
    assert np.isfinite(found["z_score.output.weight"]).all()


@pytest.mark.filterwarnings("ignore:fit_mcmc")
def test_of_a_stack_it_is_that_of_its_parts():
    stack = wp.stack_priors({"narrow": NET.prior(scale=0.5), "wide": NET.prior(loc=1.0)})
    whole = fit("hmc", NET, stack, num_samples=50)
    found = wp.diagnostics.contraction(NET.bnn, whole)
    for label, part in wp.unstack_fit(whole).items():
        alone = wp.diagnostics.contraction(NET.bnn, part)
        xr.testing.assert_identical(found.sel(prior=label, drop=True), alone)


def test_another_models_fit_is_an_error():
    with pytest.raises(ValueError, match="fit: expected"):
        wp.diagnostics.contraction(NET.bnn, fit("map", LINEAR, LINEAR.prior()))
