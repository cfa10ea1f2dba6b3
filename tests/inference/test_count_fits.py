"""Every fit function and every reader of fits, on counts with an offset and on trials."""

from functools import cache

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy import special

import weightprior as wp
from problems import FITTERS
from weightprior.fits.validate import validate

RNG = np.random.default_rng(0)
INPUTS, EXPOSURE = RNG.normal(size=(20, 2)), RNG.uniform(1, 9, 20)
TRIALS = RNG.integers(1, 30, 20)
SUCCESSES = RNG.binomial(TRIALS, special.expit(INPUTS[:, 0]))
COUNTS = RNG.poisson(EXPOSURE * np.exp(INPUTS[:, 0]) * RNG.gamma(2.0, 0.5, 20))
MODELS = {
    "NegativeBinomial": (
        wp.BNN(wp.mlp(3, (3,), offset=2), wp.NegativeBinomial()),
        np.column_stack([INPUTS, np.log(EXPOSURE)]),
        COUNTS,
    ),
    "Binomial": (
        wp.BNN(wp.mlp(2, (3,)), wp.Binomial()),
        INPUTS,
        np.column_stack([SUCCESSES, TRIALS - SUCCESSES]),
    ),
}
_short = {"num_warmup": 100, "num_samples": 60, "num_chains": 2}
OPTIONS = {
    **{name: {} for name in FITTERS},
    **dict.fromkeys(("hmc", "nuts", "mclmc"), _short),
    "vi": {"num_steps": 200},
    "ensemble": {"num_members": 5},
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:fit_(vi|mcmc|tempered):UserWarning"),
    pytest.mark.parametrize("method", FITTERS),
    pytest.mark.parametrize("name", MODELS),
]


@cache
def fitted(name, method):
    bnn, x, y = MODELS[name]
    prior = wp.normal_prior(bnn, scale=0.7)
    return FITTERS[method](bnn, x, y, prior=prior, **OPTIONS[method])


def test_it_is_fitted_and_survives_netcdf(name, method, tmp_path):
    fit = fitted(name, method)
    validate(fit)
    fit.to_netcdf(tmp_path / "fit.nc")
    again = az.from_netcdf(tmp_path / "fit.nc")
    for group in fit.children:
        xr.testing.assert_identical(again[group].to_dataset(), fit[group].to_dataset())


def test_it_is_predicted_scored_and_compared(name, method):
    (bnn, x, y), fit = MODELS[name], fitted(name, method)
    told = {"trials": TRIALS} if name == "Binomial" else {}
    found = wp.predict(bnn, fit, x, **told)
    assert np.isfinite(found["mean"]).all()
    assert (found["y"] >= 0).all()
    scores = wp.score(bnn, fit, x, y)
    assert all(np.isfinite(values).all() for values in scores.values())
    # What was drawn is what was predicted: the errors are those of the model's own targets.
    counts = y if y.ndim == 1 else y[:, 0]
    assert scores["rmse"] < np.std(counts)
    table = wp.compare(bnn, {"fit": fit}, x, y)
    assert table["elpd_loo"].notna().all() == (method not in ("map", "ensemble"))


def test_it_is_diagnosed(name, method):
    (bnn, x, y), fit = MODELS[name], fitted(name, method)
    for found in (
        wp.diagnostics.effective_parameters(bnn, fit, x, y)["gamma"],
        wp.diagnostics.nonlinearity(bnn, fit, x)["lipschitz"],
        wp.diagnostics.saturation(bnn, fit, x)["slope_by_layer"],
        wp.diagnostics.unit_ablation(bnn, fit, x, y, num_draws=2)["largest_ablation_loss_by_layer"],
        wp.diagnostics.contraction(bnn, fit)["distance_by_layer"],
    ):
        assert np.isfinite(found).all()
