"""Networks that only other libraries have, through every method and reader."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import weightprior as wp
from networks import Convolution, Embedding, Residual

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(24, 2))
PLACES = np.column_stack([np.arange(24) % 3, RNG.normal(size=24)])
IMAGES = RNG.uniform(size=(24, 64))
GAINS = {"weight": 0, "bias": 0, "gain": 1}
CASES = {
    "residual": (
        lambda: (Residual(), 2, {"readout": "out"}),
        wp.Gaussian(noise=0.5),
        NUMBERS,
        np.sin(NUMBERS[:, 0]),
    ),
    "convolution": (
        lambda: (Convolution(3), 64, {}),
        wp.Categorical(3),
        IMAGES,
        np.arange(24) % 3,
    ),
    "embedding": (
        lambda: (Embedding(), ["place", "dose"], {}),
        wp.Gaussian(),
        PLACES,
        PLACES[:, 0] - 1 + np.tanh(PLACES[:, 1]) + 0.5 * RNG.normal(size=24),
    ),
}
FITS = {
    "map": (wp.fit_map, {"num_restarts": 2}),
    "mcmc": (wp.fit_mcmc, {"num_warmup": 50, "num_samples": 60, "num_chains": 2}),
    "laplace": (wp.fit_laplace, {"num_samples": 60, "num_restarts": 2}),
    "vi": (wp.fit_vi, {"num_steps": 500, "num_samples": 60}),
    "ensemble": (wp.fit_ensemble, {"num_members": 3}),
    "tempered": (wp.fit_tempered, {"num_temperatures": 4, "num_samples": 30, "num_chains": 4}),
}
pytestmark = [
    pytest.mark.slow,
    # Searches and chains are kept short here.
    pytest.mark.filterwarnings("ignore:fit_:UserWarning"),
    pytest.mark.filterwarnings("ignore:cross_validate:UserWarning"),
]


@cache
def problem(case):
    make, likelihood, x, y = CASES[case]
    model, features, options = make()
    bnn = wp.BNN(wp.network(model, features, **options), likelihood)
    gains = any(site.kind == "gain" for site in bnn.sites.values())
    loc = GAINS if gains else 0.0
    return bnn, x, y, wp.normal_prior(bnn, loc=loc, scale=wp.fan_in_scale(bnn)), model


@pytest.mark.parametrize("method", FITS)
@pytest.mark.parametrize("case", CASES)
def test_is_fitted_saved_and_read(case, method, tmp_path):
    bnn, x, y, prior, _ = problem(case)
    fit, options = FITS[method]
    found = fit(bnn, x, y, prior=prior, **options)
    found.to_netcdf(tmp_path / "fit.nc")
    with xr.open_datatree(tmp_path / "fit.nc") as again:
        again.load()
    predicted, before = wp.predict(bnn, again, x[:5]), wp.predict(bnn, found, x[:5])
    xr.testing.assert_identical(predicted, before)
    assert np.isfinite(float(wp.score(bnn, again, x, y)["elpd"]))
    table = wp.compare(bnn, {method: again}, x, y)
    assert np.isfinite(table[["lpd_train", "lpd_test", "norm", "parameters"]].to_numpy()).all()


@pytest.mark.parametrize("case", CASES)
def test_is_cross_validated_under_its_trained_weights(case):
    bnn, x, y, prior, model = problem(case)
    centres = wp.stack_priors({"zero": prior, "itself": wp.normal_prior(bnn, loc=model)})
    found = wp.cross_validate(bnn, x, y, prior=centres, num_folds=3)
    assert np.isfinite(found["elpd"]).all()
    posterior = wp.fit_laplace(bnn, x, y, prior=prior, num_restarts=2)
    informed = wp.posterior_as_prior(bnn, posterior)
    assert {*informed.loc} == {*bnn.sites}


READ = """
import sys
import xarray as xr
import weightprior as wp
from test_methods import CASES, problem
bnn, x, *_ = problem(sys.argv[1])
with xr.open_datatree(sys.argv[2]) as fit:
    print(float(wp.predict(bnn, fit.load(), x[:5])["mean"].sum()))
"""


@pytest.mark.parametrize("case", CASES)
def test_a_fresh_process_reads_the_same(case, tmp_path):
    bnn, x, y, prior, _ = problem(case)
    fit = wp.fit_map(bnn, x, y, prior=prior, num_restarts=2)
    fit.to_netcdf(tmp_path / "fit.nc")
    here = Path(__file__).parent
    path = ":".join([str(here), str(here.parent.parent), *sys.path])
    told = subprocess.run(
        [sys.executable, "-c", READ, case, str(tmp_path / "fit.nc")],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    expected = float(wp.predict(bnn, fit, x[:5])["mean"].sum())
    assert float(told.split()[-1]) == pytest.approx(expected, rel=1e-12)
