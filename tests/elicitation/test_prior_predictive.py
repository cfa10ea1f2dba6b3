"""Draws from the prior: its own moments, NumPyro's draws, and common random numbers."""

from functools import cache

import arviz as az
import jax
import numpy as np
import numpyro
import pytest
import xarray as xr
from scipy import stats

import shared_fits as fits
import weightprior as wp
from assertions import FALSE_ALARM, assert_mean, assert_sd
from shared_fits import FRAME, REGRESSION, ROUNDING, TWO_OUTPUTS

NUM_SAMPLES = 1000


@cache
def prior():
    """Another centre and scale at every site."""
    locs = {name: 0.2 * i - 0.5 for i, name in enumerate(REGRESSION.network.sites)}
    scales = {name: 0.3 + 0.2 * i for i, name in enumerate(REGRESSION.network.sites)}
    return wp.normal_prior(REGRESSION, locs, scales, latents={"log_noise": (-1.0, 0.4)})


@cache
def drawn():
    return wp.prior_predictive(REGRESSION, FRAME, prior=prior(), num_samples=NUM_SAMPLES)


def prior_draws(tree):
    return {n: v.to_numpy() for n, v in tree["prior"].data_vars.items() if n != "noise"}


@pytest.mark.parametrize("site", REGRESSION.sites)
def test_draws_have_the_priors_mean_and_sd(site):
    draws = drawn()["prior"][site]
    assert_mean(draws, prior().loc[site])
    assert_sd(draws, prior().scale[site])


def test_predictions_are_those_of_the_drawn_networks():
    weights, predictive = prior_draws(drawn()), drawn()["prior_predictive"]
    law = fits.law(REGRESSION, weights, FRAME)
    np.testing.assert_allclose(predictive["mean"], law.mean(), **ROUNDING)
    standardised = (predictive["y"] - law.mean()) / law.std()
    assert_mean(standardised, 0.0)
    assert_sd(standardised, 1.0)
    np.testing.assert_allclose(drawn()["prior"]["noise"], np.exp(weights["log_noise"]), **ROUNDING)


def test_numpyro_draws_the_same_distribution():
    predictive = numpyro.infer.Predictive(REGRESSION.model, num_samples=NUM_SAMPLES)
    theirs = jax.jit(predictive)(jax.random.key(1), FRAME.to_numpy(), prior=prior())
    ours = {**drawn()["prior"].data_vars, "y": drawn()["prior_predictive"]["y"]}
    columns = [
        (one, other)
        for name, draws in ours.items()
        for one, other in zip(
            draws.to_numpy().reshape(NUM_SAMPLES, -1).T,
            np.reshape(theirs[name], (NUM_SAMPLES, -1)).T,
            strict=True,
        )
    ]
    assert len(columns) == 15 + 20  # weights and noises, rows
    p = [stats.ks_2samp(*pair).pvalue for pair in columns]
    assert min(p) > FALSE_ALARM / len(p)


def test_groups_dims_and_coordinates():
    tree = drawn()
    lead = ("chain", "draw")
    assert {g: {n: v.dims for n, v in tree[g].data_vars.items()} for g in tree.children} == {
        "prior": {
            "hidden_0.weight": (*lead, "feature", "hidden_0"),
            "hidden_0.bias": (*lead, "hidden_0"),
            "output.weight": (*lead, "hidden_0", "output"),
            "output.bias": (*lead, "output"),
            "log_noise": lead,
            "noise": lead,
        },
        "prior_predictive": dict.fromkeys(("mean", "y"), (*lead, "obs_id")),
        "constant_data": {
            "x": ("obs_id", "feature"),
            **{
                f"prior_{part}.{name}": site.dims
                for name, site in REGRESSION.sites.items()
                for part in ("loc", "scale")
            },
        },
    }
    assert dict(tree["prior_predictive"].sizes) == {"chain": 1, "draw": NUM_SAMPLES, "obs_id": 20}
    assert tree["prior"]["feature"].to_numpy().tolist() == ["age", "dose"]
    np.testing.assert_array_equal(tree["constant_data"]["x"], FRAME)


def test_classes():
    bnn = wp.BNN(wp.mlp(2, hidden=(), num_outputs=3), wp.Categorical(3))
    tree = wp.prior_predictive(bnn, FRAME, prior=wp.normal_prior(bnn), num_samples=3)
    predictive = tree["prior_predictive"]
    assert predictive["mean"].dims == ("chain", "draw", "obs_id", "output")
    assert predictive["y"].dims == ("chain", "draw", "obs_id")
    np.testing.assert_allclose(
        predictive["mean"], fits.mean(bnn, prior_draws(tree), FRAME), **ROUNDING
    )


def test_a_stack_is_drawn_with_common_random_numbers():
    parts = {"here": wp.normal_prior(TWO_OUTPUTS), "there": wp.normal_prior(TWO_OUTPUTS, 1.0, 3.0)}
    stack = wp.stack_priors(parts)
    both = wp.prior_predictive(TWO_OUTPUTS, FRAME, prior=stack, num_samples=5)
    assert both["prior_predictive"]["y"].dims == ("chain", "draw", "prior", "obs_id", "output")
    standardised = {}
    for label, single in parts.items():
        own = wp.prior_predictive(TWO_OUTPUTS, FRAME, prior=single, num_samples=5)
        for group in ("prior", "prior_predictive"):
            part = both[group].to_dataset().sel(prior=label, drop=True)
            xr.testing.assert_identical(part, own[group].to_dataset())
        for name, draws in prior_draws(own).items():
            standardised[label, name] = (draws - single.loc[name]) / single.scale[name]
    for name in TWO_OUTPUTS.sites:
        np.testing.assert_allclose(
            standardised["here", name], standardised["there", name], **ROUNDING
        )


@pytest.mark.parametrize("key", [0, 2**32 - 1])
def test_key_decides_the_draws_in_every_precision(key):
    given = {"prior": wp.normal_prior(TWO_OUTPUTS), "num_samples": 5}
    first = wp.prior_predictive(TWO_OUTPUTS, FRAME, **given, rng_key=key)
    with jax.enable_x64(True):
        again = wp.prior_predictive(TWO_OUTPUTS, FRAME, **given, rng_key=key)
    xr.testing.assert_identical(first, again)
    other = wp.prior_predictive(TWO_OUTPUTS, FRAME, **given, rng_key=7)
    assert not np.any(first["prior"]["output.weight"] == other["prior"]["output.weight"])


def test_netcdf_gives_back_the_same(tmp_path):
    drawn().to_netcdf(tmp_path / "prior.nc")
    back = az.from_netcdf(tmp_path / "prior.nc")
    xr.testing.assert_identical(back.load(), drawn())
    back.close()


class TestSimulate:
    x = np.random.default_rng(0).normal(size=(2000, 2))

    def test_its_weights_are_draws_and_its_data_theirs(self):
        prior = wp.normal_prior(REGRESSION, loc=2.0, scale=0.5, latents={"log_noise": (-1.0, 0.1)})
        weights, y = wp.simulate(REGRESSION, self.x, prior=prior, rng_key=3)
        assert list(weights) == list(REGRESSION.sites)
        z = np.concatenate(
            [((weights[n] - prior.loc[n]) / prior.scale[n]).ravel() for n in weights]
        )
        # 14 standard normals: their mean and largest.
        assert abs(z.mean()) < 4 / np.sqrt(z.size)
        assert np.abs(z).max() < 4.5
        residual = y - fits.outputs(REGRESSION, weights, self.x)[:, 0]
        noise = np.exp(weights["log_noise"])
        assert residual.std() == pytest.approx(noise, rel=5 / np.sqrt(2 * len(y)))

    def test_the_key_decides(self):
        prior = wp.normal_prior(REGRESSION)
        (first, y), (again, same), (_, other) = (
            wp.simulate(REGRESSION, self.x, prior=prior, rng_key=k) for k in (0, 0, 1)
        )
        np.testing.assert_array_equal(first["hidden_0.weight"], again["hidden_0.weight"])
        np.testing.assert_array_equal(y, same)
        assert not np.array_equal(y, other)

    @pytest.mark.parametrize(
        ("prior", "message"),
        [
            (
                wp.normal_prior(REGRESSION, scale={"weight": 0.3, "bias": np.inf}),
                "flat prior.*on 'hidden_0.bias'",
            ),
            (wp.stack_priors({"a": wp.normal_prior(REGRESSION)}), "expected a single prior"),
        ],
    )
    def test_a_prior_that_cannot_be_drawn_from(self, prior, message):
        with pytest.raises(ValueError, match=message):
            wp.simulate(REGRESSION, self.x, prior=prior)


class TestWrongInput:
    @pytest.mark.parametrize("site", ["output.bias", "log_noise"])
    def test_a_flat_prior_has_no_draws(self, site):
        scale = {"weight": 1.0, "bias": 1.0, site: np.inf}
        flat = wp.normal_prior(REGRESSION, scale=scale)
        with pytest.raises(ValueError, match=f"prior: expected finite scales.*'{site}'"):
            wp.prior_predictive(REGRESSION, FRAME, prior=flat)

    @pytest.mark.parametrize("num_samples", [0, -1])
    def test_no_samples(self, num_samples):
        with pytest.raises(ValueError, match="num_samples: expected at least 1"):
            wp.prior_predictive(REGRESSION, FRAME, prior=prior(), num_samples=num_samples)

    def test_a_prior_of_another_model(self):
        with pytest.raises(ValueError, match="Was it made for another model"):
            wp.prior_predictive(REGRESSION, FRAME, prior=wp.normal_prior(TWO_OUTPUTS))

    def test_columns_of_a_frame(self):
        with pytest.raises(ValueError, match="Reorder them"):
            wp.prior_predictive(REGRESSION, FRAME[["dose", "age"]], prior=prior())
