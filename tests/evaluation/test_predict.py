"""Predictions, draw by draw, against networks and distributions of numpy and scipy."""

from dataclasses import dataclass

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import shared_fits as fits
import weightprior as wp
from assertions import assert_estimate, assert_mean, assert_sd
from shared_fits import FRAME, LIKELIHOODS, REGRESSION, ROUNDING, TARGET, case, drawn

every_likelihood = pytest.mark.parametrize("name", LIKELIHOODS)


def predict(name, **changes):
    given = case(name)._replace(**changes)
    return wp.predict(given.bnn, given.fit, given.x)


@every_likelihood
def test_dims_and_coordinates(name):
    predicted, several = predict(name), case(name).y.ndim == 2
    rows, per_output = ("chain", "draw", "obs_id"), ("output",)
    by_class = name == "categorical"
    assert {n: v.dims for n, v in predicted.data_vars.items()} == {
        "mean": rows + per_output * (several or by_class),
        "y": rows + per_output * several,
    }
    counted = {"chain": 4, "draw": 250, "obs_id": 8, "output": predicted["mean"].shape[-1]}
    for dim in predicted.dims:
        np.testing.assert_array_equal(predicted[dim], np.arange(counted[dim]))


@every_likelihood
def test_mean_is_that_of_a_plain_forward_pass_of_every_draw(name):
    given = case(name)
    expected = fits.mean(given.bnn, given.weights, given.x)
    np.testing.assert_allclose(predict(name)["mean"], expected, **ROUNDING)


@every_likelihood
def test_y_scatters_around_the_mean_as_the_likelihood_says(name):
    given, y = case(name), predict(name)["y"].to_numpy()
    if name == "categorical":
        # Every class by itself is a yes or no.
        p = fits.mean(given.bnn, given.weights, given.x)
        y, center, sd = y[..., None] == np.arange(3), p, np.sqrt(p * (1 - p))
    else:
        law = fits.law(given.bnn, given.weights, given.x)
        center, sd = law.mean(), law.std()
    standardised = (y - center) / sd
    assert_mean(standardised, 0.0)
    assert_sd(standardised, 1.0)


def test_class_probabilities_sum_to_one():
    np.testing.assert_allclose(predict("categorical")["mean"].sum("output"), 1.0, **ROUNDING)


def test_classes_are_labels():
    assert set(np.unique(predict("categorical")["y"])) == {0, 1, 2}


def test_noise_of_different_draws_outputs_and_rows_is_not_shared():
    given, predicted = case("gaussian, two outputs"), predict("gaussian, two outputs")
    noise = (predicted["y"] - predicted["mean"]) / np.exp(given.weights["log_noise"])[:, :, None]
    for axis in range(noise.ndim):
        # Two of 8,000 pairs of normals come no closer than this, but rounding does.
        assert np.ptp(noise.to_numpy(), axis).min() > 1e-9


class TestKey:
    @pytest.mark.parametrize("key", [7, jax.random.key(7), jax.random.PRNGKey(7)])
    def test_decides_the_noise(self, key):
        given = case("gaussian")
        first = wp.predict(given.bnn, given.fit, given.x, rng_key=7)
        again = wp.predict(given.bnn, given.fit, given.x, rng_key=key)
        xr.testing.assert_identical(first, again)

    def test_changes_nothing_but_the_noise(self):
        given = case("gaussian")
        one, other = (wp.predict(given.bnn, given.fit, given.x, rng_key=k) for k in (0, 1))
        xr.testing.assert_identical(one["mean"], other["mean"])
        assert not np.any(one["y"] == other["y"])


class TestStacked:
    def test_every_prior_is_predicted_as_by_its_own_fit(self):
        fit = drawn("hmc", "strings")
        predicted = wp.predict(REGRESSION, fit, FRAME)
        assert predicted["y"].dims == ("chain", "draw", "prior", "obs_id")
        assert predicted["prior"].to_numpy().tolist() == ["narrow", "moved"]
        for label, part in wp.unstack_fit(fit).items():
            own = wp.predict(REGRESSION, part, FRAME)
            xr.testing.assert_identical(predicted.sel(prior=label, drop=True), own)

    def test_labels_that_are_numbers(self):
        predicted = wp.predict(REGRESSION, drawn("map", "numbers"), FRAME)
        assert predicted["mean"].sel(prior=0.25).sizes == {"chain": 1, "draw": 1, "obs_id": 20}


@pytest.mark.parametrize("name", ["gaussian", "categorical"])
def test_permuting_the_hidden_units_of_every_draw_changes_nothing(name):
    given = case(name)
    order = np.random.default_rng(0).permuted(
        np.broadcast_to(np.arange(3), (fits.NUM_CHAINS, fits.NUM_DRAWS, 3)), axis=-1
    )
    moved = given.weights | {
        "hidden_0.weight": np.take_along_axis(
            given.weights["hidden_0.weight"], order[:, :, None], axis=3
        ),
        "hidden_0.bias": np.take_along_axis(given.weights["hidden_0.bias"], order, axis=2),
        "output.weight": np.take_along_axis(
            given.weights["output.weight"], order[..., None], axis=2
        ),
    }
    assert np.any(moved["hidden_0.bias"] != given.weights["hidden_0.bias"])
    permuted = fits.light_fit(given.bnn, given.x, given.y, moved)
    xr.testing.assert_allclose(predict(name, fit=permuted), predict(name), **ROUNDING)


class TestWrongInput:
    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            (["dose", "age"], "Reorder them: x"),
            (["age", "weight"], "Select the network's features: x"),
        ],
    )
    def test_columns_of_a_frame_have_to_be_the_networks(self, columns, message):
        frame = FRAME.set_axis(columns, axis=1)
        with pytest.raises(
            ValueError, match=f"x: expected the columns 'age', 'dose'.*{message}"
        ) as told:
            wp.predict(REGRESSION, drawn("hmc"), frame)
        assert str(told.value).endswith("x[['age', 'dose']].")

    def test_columns_have_to_be_the_fits_where_the_network_has_no_names(self):
        given = case("gaussian")
        frame = pd.DataFrame(given.x, columns=["age", "dose"])
        fit = fits.light_fit(given.bnn, frame, given.y, given.weights)
        expected = predict("gaussian")["y"]
        np.testing.assert_array_equal(predict("gaussian", fit=fit, x=frame)["y"], expected)
        np.testing.assert_array_equal(predict("gaussian", fit=fit)["y"], expected)
        with pytest.raises(ValueError, match="Reorder them"):
            predict("gaussian", fit=fit, x=frame[["dose", "age"]])

    @pytest.mark.parametrize("x", [np.ones(2), np.ones((3, 1)), np.ones((0, 2))])
    def test_shape_of_x(self, x):
        with pytest.raises(ValueError, match="x: expected"):
            predict("gaussian", x=x)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_numbers_that_are_not_finite(self, bad):
        with pytest.raises(ValueError, match="x: expected finite numbers"):
            predict("gaussian", x=[[0.0, bad]])

    def test_key(self):
        with pytest.raises(TypeError, match="rng_key: expected an int or one JAX key"):
            wp.predict(REGRESSION, drawn("hmc"), FRAME, rng_key=0.5)

    @pytest.mark.parametrize("name", ["gaussian, two outputs", "bernoulli"])
    def test_a_fit_of_another_model(self, name):
        with pytest.raises(ValueError, match="fit: expected the sites and shapes of this model"):
            predict(name, fit=case("gaussian").fit)

    @pytest.mark.parametrize(
        ("activation", "likelihood"),
        [("relu", wp.Gaussian(0.3)), ("tanh", wp.Gaussian(0.4)), ("tanh", wp.StudentT(4, 0.3))],
    )
    def test_a_fit_of_a_model_with_the_same_sites(self, activation, likelihood):
        x, y = np.ones((3, 1)), np.ones(3)
        bnn = wp.BNN(wp.mlp(1, hidden=(2,)), wp.Gaussian(0.3))
        weights = fits.random_weights(bnn, np.random.default_rng(0), (1, 2))
        fit = fits.light_fit(bnn, x, y, weights)
        wp.predict(bnn, fit, x)
        other = wp.BNN(wp.mlp(1, hidden=(2,), activation=activation), likelihood)
        with pytest.raises(ValueError, match="Pass the model that was fitted"):
            wp.predict(other, fit, x)

    @pytest.mark.parametrize(
        ("fit", "found"),
        [
            (None, "NoneType"),
            (xr.Dataset(), "Dataset"),
            (xr.DataTree.from_dict({"prior": xr.Dataset()}), "one without a group `posterior`"),
        ],
    )
    def test_something_else_than_a_fit(self, fit, found):
        with pytest.raises(TypeError, match=f"fit: expected the DataTree.*; got {found}"):
            predict("gaussian", fit=fit)


@pytest.mark.parametrize("name", ["gaussian", "gaussian, two outputs", "poisson"])
def test_quantiles_are_those_of_the_predictive_mixture(name, monkeypatch):
    given = case(name)
    # Blocks of three rows and of two.
    monkeypatch.setattr("weightprior.evaluation._quantiles._NUMBERS_AT_ONCE", 4000 * 3)
    found = wp.predict(given.bnn, given.fit, given.x, quantiles=(0.1, 0.5, 0.9))
    law = fits.law(given.bnn, given.weights, given.x)
    np.testing.assert_allclose(found["mean"], law.mean().mean((0, 1)), **ROUNDING)
    spread = np.sqrt(law.var().mean((0, 1)) + law.mean().var((0, 1), ddof=1))
    np.testing.assert_allclose(found["sd"], spread, **ROUNDING)
    levels = found["quantile"].to_numpy()
    for level, quantile in zip(
        levels, np.moveaxis(found["quantiles"].to_numpy(), -1, 0), strict=True
    ):
        upto = law.cdf(quantile).mean((0, 1))
        below = law.cdf(quantile - 1).mean((0, 1)) if given.bnn.likelihood.step else upto
        error = 6 * np.sqrt(level * (1 - level) / 4000)
        assert np.all((below - error < level) & (level < upto + error))


def test_the_sd_of_a_law_without_a_variance_is_that_of_its_draws():
    class Untold(dist.Normal):
        @property
        def variance(self):
            raise NotImplementedError

    @dataclass(frozen=True)
    class Plain(wp.Likelihood):
        def distribution(self, output, weights):
            return Untold(output[:, 0], 0.5)

    bnn = wp.BNN(wp.mlp(2, hidden=()), Plain())
    fit = wp.fit_map(bnn, FRAME.to_numpy(), TARGET, prior=wp.normal_prior(bnn))
    sd = wp.predict(bnn, fit, FRAME.to_numpy(), quantiles=0.5)["sd"].to_numpy()
    # An sd of 4,000 normal draws.
    assert_estimate(sd, np.full(len(sd), 0.5), np.full(len(sd), 0.5 / np.sqrt(8000)))


def test_quantiles_of_a_point_are_those_of_the_noise():
    found = wp.predict(REGRESSION, drawn("map"), FRAME, quantiles=0.975)
    noise = drawn("map")["posterior"]["noise"].item()
    assert found["quantiles"].dims == ("obs_id", "quantile")
    assert found["obs_id"].to_numpy().tolist() == FRAME.index.tolist()
    error = noise * np.sqrt(0.975 * 0.025 / 4000) / stats.norm.pdf(1.96)
    apart = (found["quantiles"] - found["mean"]).to_numpy()[:, 0]
    assert_estimate(apart, np.full(len(FRAME), 1.96 * noise), np.full(len(FRAME), error))


def test_quantiles_that_cannot_be_are_named():
    with pytest.raises(ValueError, match=r"quantiles: expected numbers between 0 and 1.*got 95"):
        wp.predict(REGRESSION, drawn("map"), FRAME, quantiles=95)
    given = case("categorical")
    with pytest.raises(ValueError, match=r"since targets are classes.*Leave quantiles out"):
        wp.predict(given.bnn, given.fit, given.x, quantiles=0.5)


def test_more_predictions_than_there_is_memory_for_are_refused(monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    with pytest.raises(MemoryError, match=r"Pass quantiles=\(0\.05, 0\.95\)"):
        predict("gaussian")
    given = case("gaussian")
    assert "quantiles" in wp.predict(given.bnn, given.fit, given.x, quantiles=(0.05, 0.95))
