"""Convergence of the network's outputs, by ArviZ's functions on outputs computed by numpy."""

import arviz as az
import numpy as np
import pytest
import xarray as xr
from arviz_stats.base import array_stats

import shared_fits as fits
import weightprior as wp
from shared_fits import FRAME, LIKELIHOODS, REGRESSION, ROUNDING, case, fitted


def arviz(draws):
    axes = {"chain_axis": 0, "draw_axis": 1}
    return {
        "rhat": array_stats.rhat(draws, **axes),
        "ess_bulk": array_stats.ess(draws, **axes, method="bulk"),
        "ess_tail": array_stats.ess(draws, **axes, method="tail", prob=(0.05, 0.95)),
    }


def in_pairs(weights):
    """An odd number of draws, each of them twice.

    R-hat ranks distances from the median. The two middle draws are equally far from it, but for
    rounding, which decides their ranks unless they are equal.
    """
    return {name: w[:3, :125].repeat(2, axis=1) for name, w in weights.items()}


def convergence(name, weights):
    given = case(name)
    fit = fits.made_fit(given.bnn, given.x, given.y, weights)
    return wp.diagnostics.convergence(given.bnn, fit, given.x)


@pytest.mark.parametrize("name", ["gaussian", "categorical"])
def test_it_is_that_of_the_outputs(name):
    given, weights = case(name), in_pairs(case(name).weights)
    found = convergence(name, weights)
    for variable, expected in arviz(fits.outputs(given.bnn, weights, given.x)).items():
        assert found[variable].dims == ("obs_id", "output")
        np.testing.assert_allclose(found[variable], expected, **ROUNDING)


def test_it_is_that_of_the_log_density():
    fit = fitted("hmc")
    found = wp.diagnostics.convergence(REGRESSION, fit, FRAME)
    for variable, expected in arviz(fit["sample_stats"]["lp"].to_numpy()).items():
        assert found[f"{variable}_lp"].dims == ()
        np.testing.assert_allclose(found[f"{variable}_lp"], expected, **ROUNDING)


def test_what_the_sampler_says_of_every_chain():
    fit = fitted("hmc")
    found = wp.diagnostics.convergence(REGRESSION, fit, FRAME)
    assert {found[name].dims for name in ("separation", "divergences", "bfmi")} == {("chain",)}
    xr.testing.assert_equal(found["divergences"], fit["sample_stats"]["diverging"].sum("draw"))
    np.testing.assert_allclose(found["bfmi"], az.bfmi(fit)["energy"], rtol=1e-5)  # single precision


def test_independent_draws_have_converged():
    given = case("gaussian")
    found = wp.diagnostics.convergence(given.bnn, given.fit, given.x)
    assert found["rhat"].max() < 1.05
    assert found["ess_bulk"].min() > 0.5 * fits.NUM_CHAINS * fits.NUM_DRAWS
    assert found["converged"]
    assert found["verdict"].item().startswith("Converged: R-hat at most 1.0")


def test_a_real_fit_has_converged():
    assert wp.diagnostics.convergence(REGRESSION, fitted("nuts"), FRAME)["rhat"].max() < 1.05


def test_a_chain_elsewhere_is_seen():
    weights = case("gaussian").weights
    bias = weights["output.bias"].copy()
    bias[0] += 10 * bias.std()
    found = convergence("gaussian", weights | {"output.bias": bias})
    assert found["rhat"].min() > 1.5
    assert found["separation"].to_numpy().argmax() == 0
    assert not found["converged"]
    assert "chain 0 stays away from the others" in found["verdict"].item()


def test_units_in_another_order_in_every_chain_change_nothing():
    # Chains are told apart by the weights of a unit, which are far from those of the next.
    weights = in_pairs(case("gaussian").weights)
    weights["hidden_0.bias"] += [-3.0, 0.0, 3.0]
    moved = dict(weights)
    for chain in range(3):
        order = np.roll(np.arange(3), chain)
        for name, axis in (("hidden_0.weight", 3), ("hidden_0.bias", 2), ("output.weight", 2)):
            moved[name] = moved[name].copy()
            moved[name][chain] = weights[name].take(order, axis)[chain]
    assert arviz(moved["hidden_0.bias"])["rhat"].min() > 1.5
    xr.testing.assert_allclose(
        convergence("gaussian", moved), convergence("gaussian", weights), **ROUNDING
    )


def test_every_prior_by_itself():
    fit = fitted("hmc", "strings")
    found = wp.diagnostics.convergence(REGRESSION, fit, FRAME)
    assert {*found["rhat"].dims} == {"prior", "obs_id", "output"}
    assert {*found["bfmi"].dims} == {"prior", "chain"}
    assert found["verdict"].dims == found["converged"].dims == ("prior",)
    for label, part in wp.unstack_fit(fit).items():
        own = wp.diagnostics.convergence(REGRESSION, part, FRAME)
        xr.testing.assert_identical(found.sel(prior=label, drop=True), own)


def test_one_point_tells_nothing():
    found = wp.diagnostics.convergence(REGRESSION, fits.drawn("map"), FRAME)
    assert found["verdict"].item() == "Not judged: a MAP is one point, without chains."
    assert not found["converged"]
    numbers = found.drop_vars(["verdict", "converged"])
    assert all(bool(v.isnull().all()) for v in numbers.data_vars.values())


def test_a_fit_of_another_model_raises():
    with pytest.raises(ValueError, match="fit: expected the sites and shapes of this model"):
        wp.diagnostics.convergence(LIKELIHOODS["bernoulli"], fitted("hmc"), FRAME)
