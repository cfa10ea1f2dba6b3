"""Names of targets and classes in a fit and in what is read from it; targets as integers."""

from functools import cache
from typing import Any, NamedTuple

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import special

import weightprior as wp
from shared_fits import ROUNDING, light_fit, mean, random_weights
from weightprior.fits.reading import parts_of

_rng = np.random.default_rng(3)
ROWS = 12
X = pd.DataFrame(_rng.normal(size=(ROWS, 2)), columns=["age", "dose"])
_words = pd.Series(["no", "yes", "yes"] * 4)
_animals = pd.Series(["hen", "cat", "dog"] * 4)


def _bnn(likelihood, num_outputs):
    return wp.BNN(wp.mlp(2, hidden=(3,), num_outputs=num_outputs), likelihood)


class Named(NamedTuple):
    """A model, its targets, the names of its outputs and targets, and the numbers of classes."""

    bnn: wp.BNN
    y: Any
    outputs: list
    targets: list | None
    numbers: Any = None


CASES = {
    "animals": Named(
        _bnn(wp.Categorical(["cat", "dog", "hen"]), 3),
        _animals,
        ["cat", "dog", "hen"],
        ["cat", "dog", "hen"],
        [2, 0, 1] * 4,
    ),
    "numbered": Named(
        _bnn(wp.Categorical([3, 5]), 2), [5, 3, 3] * 4, [3, 5], [3, 5], [1, 0, 0] * 4
    ),
    "booleans": Named(
        _bnn(wp.Categorical([False, True]), 2),
        [True, False, True] * 4,
        [False, True],
        [False, True],
        [1, 0, 1] * 4,
    ),
    "yes or no": Named(_bnn(wp.Bernoulli(["no", "yes"]), 1), _words, [0], None, [0, 1, 1] * 4),
    "two of these": Named(
        _bnn(wp.Bernoulli(["no", "yes"]), 2),
        pd.DataFrame({"smokes": _words, "drinks": _words[::-1].to_numpy()}),
        ["smokes", "drinks"],
        ["smokes", "drinks"],
        np.stack([[0, 1, 1] * 4, [1, 1, 0] * 4], axis=1),
    ),
    "counts": Named(_bnn(wp.Poisson(), 1), [0.0, 2.0, 5.0] * 4, [0], None, [0, 2, 5] * 4),
    "noise by x": Named(
        _bnn(wp.HeteroscedasticGaussian(), 2), [0.5, 1.0, 2.0] * 4, ["mean", "log_sd"], None
    ),
    "two with noise by x": Named(
        _bnn(wp.HeteroscedasticGaussian(), 4),
        pd.DataFrame(_rng.normal(size=(ROWS, 2)), columns=["a", "b"]),
        ["mean a", "mean b", "log_sd a", "log_sd b"],
        ["a", "b"],
    ),
}
# What compiles is shown of those that differ.
PREDICTED = ("animals", "yes or no", "two with noise by x")


@cache
def fitted(name):
    """A fit of made-up draws."""
    bnn = CASES[name].bnn
    weights = random_weights(bnn, np.random.default_rng(1), (2, 60))
    return light_fit(bnn, X, CASES[name].y, weights)


def names(found):
    return found["output"].to_numpy().tolist() if "output" in found.dims else None


@pytest.mark.parametrize("name", CASES)
def test_a_fit_has_the_names_and_integers_and_survives_netcdf(name, tmp_path):
    given, fit = CASES[name], fitted(name)
    fit.to_netcdf(tmp_path / "fit.nc")
    with xr.open_datatree(tmp_path / "fit.nc") as found:
        found.load()
    xr.testing.assert_identical(found, fit)
    assert names(found["posterior"]) == given.outputs
    observed = found["observed_data"]["y"]
    assert names(observed) == (given.targets if observed.ndim == 2 else None)
    if given.numbers is None:
        assert observed.dtype == np.float64
    else:
        assert observed.dtype == np.int64
        np.testing.assert_array_equal(observed, given.numbers)
        decoded = given.bnn.likelihood.decode(observed.to_numpy())
        np.testing.assert_array_equal(decoded, np.asarray(given.y))
    # A file of a fit is read by the model, and by none with other labels.
    assert len(parts_of(given.bnn, found)) == 1
    if labels := given.bnn.likelihood.labels:
        others = type(given.bnn.likelihood)([f"not {label}" for label in labels])
        with pytest.raises(ValueError, match=r"fit: expected one of this model.*not "):
            parts_of(wp.BNN(given.bnn.network, others), found)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != PREDICTED[0])) for n in PREDICTED]
)
def test_predictions_and_scores_have_the_names_of_the_targets(name):
    given, fit = CASES[name], fitted(name)
    discrete, classes = given.numbers is not None, given.bnn.likelihood.has_classes
    predicted = wp.predict(given.bnn, fit, X)
    drawn = wp.prior_predictive(given.bnn, X, prior=wp.normal_prior(given.bnn), num_samples=120)
    assert predicted["y"].dtype == drawn["prior_predictive"]["y"].dtype
    assert predicted["y"].dtype == (np.int64 if discrete else np.float64)
    assert names(predicted["mean"]) == given.targets
    several = np.ndim(given.y) == 2
    assert names(predicted["y"]) == (given.targets if several else None)
    if not several and classes:  # names that the model itself has
        assert names(drawn["prior_predictive"]["mean"]) == given.targets
    weights = {site: fit["posterior"][site].to_numpy() for site in given.bnn.sites}
    np.testing.assert_allclose(predicted["mean"], mean(given.bnn, weights, X), **ROUNDING)
    scores = wp.score(given.bnn, fit, X, given.y)
    terms = fit["log_likelihood"]["y"].to_numpy()  # by numpy, of the same rows
    elpd_i = special.logsumexp(terms, axis=(0, 1)) - np.log(terms[..., 0].size)
    np.testing.assert_allclose(scores["elpd_i"], elpd_i, **ROUNDING)
    assert names(scores["calibration_error"]) == (given.targets if several else None)
    # What a model draws can be fitted.
    _, y = wp.simulate(given.bnn, X, prior=wp.normal_prior(given.bnn))
    assert y.shape == np.shape(given.y)
    given.bnn.likelihood.check_target(y, ROWS, given.bnn.network.num_outputs)


@pytest.mark.parametrize("name", ["two with noise by x"])
def test_what_else_is_read_from_a_fit_has_its_names(name):
    given, fit = CASES[name], fitted(name)
    found = wp.diagnostics.prior_sensitivity(given.bnn, fit, X)
    assert names(found["prior_sensitivity"]) == given.targets
    assert names(wp.diagnostics.nonlinearity(given.bnn, fit, X)["nonlinear"]) == given.outputs
    # It takes the targets from the fit.
    table = wp.compare(given.bnn, {"made": fit}, X, given.y)
    assert np.isfinite(table["parameters"].to_numpy(float)).all()


def test_arviz_takes_counts_and_classes_for_discrete():
    for name, plot in (("counts", az.plot_ppc_rootogram), ("yes or no", az.plot_ppc_pava)):
        fit = fitted(name).copy()
        fit["posterior_predictive"] = wp.predict(CASES[name].bnn, fit, X)[["y"]]
        plot(fit)


def test_a_cross_validation_names_targets_and_outputs_apart():
    given = CASES["two with noise by x"]

    def fit(bnn, x, y, *, prior, row_weights=None):
        parts = [random_weights(bnn, np.random.default_rng(2), (1, 1)) for _ in prior.singles()]
        stats = [{"converged": np.ones((1, 1), bool)} for _ in parts]
        return light_fit(
            bnn, x, y, *parts, prior=prior, stats=stats, draws="point", row_weights=row_weights
        )

    prior = wp.stack_priors({s: wp.normal_prior(given.bnn, scale=s) for s in (0.5, 1.0)})
    found = wp.cross_validate(given.bnn, X, given.y, prior=prior, fit=fit, num_folds=2)
    assert names(found["rmse"]) == given.targets
    loc = found["prior_loc.output.bias"]
    assert loc.dims == ("prior", "network_output")
    assert loc["network_output"].to_numpy().tolist() == given.outputs


def test_labels_are_plotted_by_their_names():
    pytest.importorskip("matplotlib")
    grid = pd.DataFrame({"age": np.linspace(-1, 1, ROWS), "dose": 0.0})
    for name in ("animals", "yes or no"):
        given = CASES[name]
        found = wp.predict(given.bnn, fitted(name), grid)
        [axis] = wp.plots.plot_predictive(found, grid["age"], x_data=X["age"], y_data=given.y)
        legend = [text.get_text() for text in axis.figure.legends[0].get_texts()]
        if name == "animals":
            assert legend[:3] == ["class cat", "class dog", "class hen"]
        else:
            assert "probability of y = yes" in {axis.get_ylabel(), axis.figure.get_supylabel()}
            drawn = axis.lines[-1].get_ydata()
            np.testing.assert_array_equal(drawn, given.numbers)


def test_simulations_of_labels_are_calibrated_by_their_fits():
    given = CASES["yes or no"]

    def fit(bnn, x, y, *, prior, rng_key):
        assert set(y) <= {"no", "yes"}
        weights = random_weights(bnn, np.random.default_rng(0), (1, 60))
        return light_fit(bnn, x, y, weights, prior=prior, draws="independent")

    prior = wp.normal_prior(given.bnn)
    found = wp.simulation_based_calibration(
        given.bnn, X, prior=prior, fit=fit, num_simulations=2, num_draws=5, progress_bar=False
    )
    assert found.sizes["simulation"] == 2
