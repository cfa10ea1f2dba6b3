"""Draws of Laplace's approximation are weights of the linearised network, for every reader."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import weightprior as wp
from problems import NET
from weightprior.evaluation import sbc
from weightprior.evaluation.refits import refit
from weightprior.fits.reading import parts_of
from weightprior.model.linearised import linearised

READERS = {
    "predict": lambda bnn, fit: wp.predict(bnn, fit, NET.x)["mean"],
    "score": lambda bnn, fit: wp.score(bnn, fit, NET.x, NET.y)["elpd_i"],
    "compare": lambda bnn, fit: (
        wp.compare(bnn, {"fit": fit}, NET.x, NET.y)[["lpd_test", "rmse", "ess", "parameters"]]
        .astype(float)
        .to_xarray()
        .to_dataarray()
    ),
    "convergence": lambda bnn, fit: wp.diagnostics.convergence(bnn, fit, NET.x)["ess_bulk"],
    "effective_parameters": lambda bnn, fit: wp.diagnostics.effective_parameters(
        bnn, fit, NET.x, NET.y
    )["gamma"],
    "prior_sensitivity": lambda bnn, fit: wp.diagnostics.prior_sensitivity(bnn, fit, NET.x)[
        "prior_scaled_mean"
    ],
    "saturation": lambda bnn, fit: wp.diagnostics.saturation(bnn, fit, NET.x)["slope.hidden_0"],
    "nonlinearity": lambda bnn, fit: wp.diagnostics.nonlinearity(bnn, fit, NET.x)["lipschitz"],
    "unit_ablation": lambda bnn, fit: wp.diagnostics.unit_ablation(
        bnn, fit, NET.x, NET.y, num_draws=5
    )["ablation_loss.hidden_0"],
}


# As many everywhere, so that the approximation compiles once.
NUM_SAMPLES = 200


@cache
def fitted():
    return wp.fit_laplace(NET.bnn, NET.x, NET.y, prior=NET.prior(), num_samples=NUM_SAMPLES)


def without_mark():
    """The same draws, as weights of whatever model they are read with."""
    groups = {n: g.dataset for n, g in fitted().children.items() if n != "linearised_at"}
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = dict(fitted().attrs)
    return tree


# These read draws as the others do, by functions of their own that take long to compile.
AT_LEISURE = ("compare", "nonlinearity", "unit_ablation")


@pytest.mark.parametrize(
    "reader", [pytest.param(n, marks=[pytest.mark.slow] * (n in AT_LEISURE)) for n in READERS]
)
def test_a_reader_takes_draws_for_weights_of_the_tangent(reader):
    read, center = READERS[reader], fitted()["linearised_at"].dataset
    tangent = linearised(NET.bnn, {name: center[name].to_numpy() for name in center})
    found, expected = read(NET.bnn, fitted()), read(tangent, without_mark())
    np.testing.assert_array_equal(found, expected)
    # In the network itself the same draws give something else.
    assert not np.allclose(found, read(NET.bnn, without_mark()), rtol=1e-3, equal_nan=True)


def test_scaled_by_nothing_a_prediction_stays():
    found = wp.diagnostics.prior_sensitivity(NET.bnn, fitted(), NET.x)
    mean = wp.predict(NET.bnn, fitted(), NET.x)["mean"].mean(("chain", "draw"))
    for name in ("prior_scaled_mean", "likelihood_scaled_mean"):
        np.testing.assert_allclose(found[name].sel(alpha=1), mean, rtol=1e-12)


def test_the_mark_is_kept_by_part_and_on_disk(tmp_path):
    stack = wp.stack_priors({"a": NET.prior(), "b": NET.prior(scale=0.5)})
    fit = wp.fit_laplace(NET.bnn, NET.x, NET.y, prior=stack, num_samples=NUM_SAMPLES)
    fit.to_netcdf(tmp_path / "fit.nc")
    with xr.open_datatree(tmp_path / "fit.nc") as read:
        read = read.load()
    for part, best in zip(parts_of(NET.bnn, read), (0, 1), strict=True):
        center = part.model.network.center
        for name in NET.bnn.sites:
            held = fit["restarts"][name].isel(restart=0, prior=best)
            np.testing.assert_array_equal(center[name], held)
    hessian = wp.fit_laplace(NET.bnn, NET.x, NET.y, prior=NET.prior(), curvature="hessian")
    assert "linearised_at" not in hessian.children
    assert parts_of(NET.bnn, hessian)[0].model is NET.bnn


def test_a_tangent_has_the_precision_of_the_weights():
    center = {name: np.zeros(site.shape) for name, site in NET.bnn.network.sites.items()}
    weights = {
        name: jnp.ones(site.shape, jnp.float32) for name, site in NET.bnn.network.sites.items()
    }
    for precise in (False, True):
        with jax.enable_x64(precise):
            tangent = linearised(NET.bnn, center)
            outputs = jax.eval_shape(lambda w, of=tangent: of.outputs(w, NET.x), weights)
            assert outputs.dtype == np.float32


def test_refits_hold_the_tangent():
    counts = {"half": np.arange(15) % 2}
    fit = partial(wp.fit_laplace, num_samples=NUM_SAMPLES)
    _, [[one]] = refit(NET.bnn, NET.x, NET.y, prior=NET.prior(), fit=fit, counts=counts)
    assert one.model is not NET.bnn
    assert one.model.describe() == NET.bnn.describe()


def test_calibration_ranks_outputs_of_the_tangent():
    plan = sbc._Plan(NET.bnn, NET.x, NET.prior(), wp.fit_laplace, 99, NET.x, None)
    truth = {name: fitted()["linearised_at"][name].to_numpy()[None, None] for name in NET.bnn.sites}
    _, drawn = sbc._quantities(plan, truth, NET.y, fitted())
    mean = wp.predict(NET.bnn, fitted(), NET.x)["mean"].to_numpy()
    np.testing.assert_allclose(drawn["outputs"][..., 0], mean, rtol=1e-12)
    np.testing.assert_allclose(drawn["lp"], fitted()["sample_stats"]["lp"], rtol=1e-9)


@pytest.mark.slow
def test_laplace_is_calibrated_on_a_linear_model():
    """A network whose hidden weights are all but known, which takes no other program."""
    rng = np.random.default_rng(0)
    hidden = {
        name: rng.normal(size=site.shape)
        for name, site in NET.bnn.sites.items()
        if name.startswith("hidden")
    }
    found = wp.simulation_based_calibration(
        NET.bnn,
        NET.x,
        prior=NET.prior(
            loc=hidden | {"output.weight": 0.5, "output.bias": 0.5},
            scale={"hidden_0": 1e-4, "output": 1.0},
        ),
        fit=partial(wp.fit_laplace, num_samples=NUM_SAMPLES),
        at=NET.x,
        num_simulations=100,
        progress_bar=False,
    )
    assert found["calibrated"].item()
