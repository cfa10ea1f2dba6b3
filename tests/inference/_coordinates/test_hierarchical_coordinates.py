"""Posteriors under learned priors: a closed form, the prior itself, and what data teach."""

from functools import cache, partial

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from jax.flatten_util import ravel_pytree

import oracle
import weightprior as wp
from assertions import assert_mean, assert_sd
from problems import (
    CENTRE,
    EXACT_KERNELS,
    KERNELS,
    LEARNED,
    LINEAR,
    NET,
    SHARED,
    START,
    VAGUE,
    exact,
    fit,
)
from shared_fits import made_fit
from weightprior.fits.reading import prior_description
from weightprior.fits.task import Task
from weightprior.inference._coordinates.standardised import Standardised
from weightprior.model.symmetry import symmetries


@pytest.mark.parametrize("name", LEARNED)
def test_a_position_has_the_density_of_what_it_stands_for(name):
    """But for the volume of a step, which is known: logs of all scales, and of local ones."""
    prior = LEARNED[name]
    with jax.enable_x64(True):

        @jax.jit
        @jax.vmap
        def at(key):
            task = Task(prior, np.ones(15))
            space = Standardised(VAGUE.bnn, VAGUE.x, VAGUE.y, task, np.float64)
            position = 0.5 * space.draw(key)
            weights = space.weights(position)
            jacobian = jax.jacfwd(lambda z: ravel_pytree(space.weights(z))[0])(position)
            joint = VAGUE.bnn.log_joint(weights, VAGUE.x, VAGUE.y, prior)
            ratio = space.log_density(position) - joint
            return position, space.position(weights), jacobian, ratio

        position, again, jacobian, ratio = at(jax.random.split(jax.random.key(0), 3))
    np.testing.assert_allclose(again, position, atol=1e-12)
    found = np.asarray(ratio) - np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(found, found[0], atol=1e-8)  # of constants alone


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_learned_centre_meets_its_closed_form(kernel):
    # The others begin where it compiles sooner than a search.
    init = None if kernel == "hmc" else START
    found = fit(kernel, LINEAR, SHARED, num_samples=3000, init=init)
    unit = oracle.from_sites(SHARED.base.scale)
    loc = oracle.from_sites(SHARED.base.loc) + 0.4 * unit
    prior_precision = np.linalg.inv(np.diag(unit**2) + 1.5**2 * np.outer(unit, unit))
    columns, variance = oracle.design(LINEAR.x), exact(LINEAR.prior()).noise ** 2
    covariance = np.linalg.inv(prior_precision + columns.T @ columns / variance)
    mean = covariance @ (prior_precision @ loc + columns.T @ LINEAR.y / variance)
    # Given the weights, the centre is normal.
    of_centre = 1 / (1 / 1.5**2 + len(unit))
    weight_of = of_centre / unit
    base = oracle.from_sites(SHARED.base.loc)
    centre_mean = of_centre * 0.4 / 1.5**2 + weight_of @ (mean - base)
    centre_sd = np.sqrt(of_centre + weight_of @ covariance @ weight_of)
    draws, centre = oracle.from_sites(found["posterior"]), found["posterior"]["center.all"]
    about = {"num_comparisons": 10 * len(KERNELS)}
    assert_mean(draws, mean, label=f"weights, {kernel}", **about)
    assert_sd(draws, np.sqrt(np.diag(covariance)), label=f"weights, {kernel}", **about)
    assert_mean(centre.to_numpy(), centre_mean, label=f"centre, {kernel}", **about)
    assert_sd(centre.to_numpy(), centre_sd, label=f"centre, {kernel}", **about)


# One that has all latents of the others.
BOTH = "by layer, with a horseshoe"
PRIORS = LEARNED | {
    BOTH: wp.hierarchical_prior(
        VAGUE.bnn,
        base=VAGUE.prior(loc=0.3, scale=0.5),
        standardised={"hidden_0.weight": dist.HalfCauchy(1.0)},
    )
}
_ALONE = [(kernel, name) for kernel in KERNELS for name in LEARNED]


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "name"), [("hmc", BOTH), *_ALONE])
def test_without_data_the_answer_is_the_prior(kernel, name):
    """Against draws of NumPyro's `Predictive`, latent by latent and weight by weight."""
    prior = PRIORS[name]
    # Heavy tails mix slowly: draws far apart are as good as independent.
    options = {"num_samples": 400, "thinning": 5, "target_accept_prob": 0.95}
    found = fit(kernel, VAGUE, prior, **options)["posterior"]
    drawn = wp.prior_predictive(VAGUE.bnn, VAGUE.x, prior=prior, num_samples=4000)["prior"]
    sites = {**prior.sites, **VAGUE.bnn.sites}
    for site in sites:
        known = np.sort(drawn[site].to_numpy()[0].reshape(4000, -1), axis=0)
        values = found[site].to_numpy()
        values = values.reshape(*values.shape[:2], -1)
        # Ranks among the prior's draws are uniform, whatever the tails.
        for i in range(values.shape[2]):
            rank = np.searchsorted(known[:, i], values[..., i]) / 4000
            assert_mean(
                rank,
                0.5,
                reference_mcse=12**-0.5 / 4000**0.5,
                num_comparisons=300,
                label=f"{kernel}, {name}, {site}",
            )


@pytest.mark.slow
def test_data_say_where_the_prior_should_sit():
    """Thirty-two weights around two say so; the prior's own centre is at nought."""
    bnn = wp.BNN(wp.mlp(31, hidden=()), wp.Gaussian(noise=0.1))
    x = np.random.default_rng(0).normal(size=(200, 31))
    truth = wp.normal_prior(bnn, loc=2.0, scale=0.2)
    weights, y = wp.simulate(bnn, x, prior=truth)
    prior = wp.hierarchical_prior(bnn, {"all": ["weight", "bias"]}, center=(0.0, 3.0))
    found = wp.fit_mcmc(bnn, x, y, prior=prior)["posterior"]
    everything = np.concatenate([weights[name].ravel() for name in bnn.sites])
    # The data fix the weights, and thirty-two of them their mean and sd.
    assert abs(found["center.all"].mean() - everything.mean()) < 5 * 0.2 / np.sqrt(32) / 5
    assert abs(np.exp(found["log_scale.all"]).mean() / everything.std() - 1) < 5 / np.sqrt(64) / 5
    assert 0.5 < found["center.all"].std() / (everything.std() / np.sqrt(32)) < 2.0


@cache
def made(name):
    """A fit of weights and latents that no sampler drew."""
    rng = np.random.default_rng(0)
    sites = {**LEARNED[name].sites, **VAGUE.bnn.sites}
    draws = {n: rng.normal(0.0, 0.5, size=(2, 100, *site.shape)) for n, site in sites.items()}
    draws |= {n: np.exp(values) for n, values in draws.items() if n.startswith("local_scale")}
    return made_fit(*NET, draws, prior=LEARNED[name])


def test_the_fit_is_a_fit_like_any_other(tmp_path):
    found = made("horseshoe")
    found.to_netcdf(tmp_path / "fit.nc")
    again = xr.open_datatree(tmp_path / "fit.nc")
    xr.testing.assert_equal(again["posterior"].dataset, found["posterior"].dataset)
    told = prior_description(again)
    assert told["learned_loc"] == []
    assert told["own_scale"] == told["proper"] == ["hidden_0.weight"]
    assert set(found["log_prior"].data_vars) == {*LEARNED["horseshoe"].sites, *NET.bnn.sites}
    assert found["posterior"]["local_scale.hidden_0.weight"].dims[2:] == ("feature", "hidden_0")
    total = sum(found["log_prior"].data_vars.values()) + found["log_likelihood"]["y"].sum("obs_id")
    np.testing.assert_allclose(total, found["sample_stats"]["lp"], rtol=1e-9)
    table = wp.compare(NET.bnn, {"learned": found})
    assert table.loc["learned", "scale"] == "1, part flat"
    wp.diagnostics.contraction(NET.bnn, found)


def test_units_are_exchanged_where_the_learned_prior_lets_them_be():
    by_layer, horseshoe = (
        wp.diagnostics.align(NET.bnn, made(name))["alignment"] for name in ("by layer", "horseshoe")
    )
    assert by_layer["classes.hidden_0"].to_numpy().tolist() == [0, 0, 0]
    assert not by_layer["mirrorable.hidden_0"].any()
    assert horseshoe["classes.hidden_0"].to_numpy().tolist() == [0, 1, 2]
    assert horseshoe["mirrorable.hidden_0"].all()


def test_a_centre_counts_however_heavy_the_tails_around_it():
    """An infinite sd is not a flat prior: units around other points than zero are no mirrors."""
    loc = {"hidden_0.weight": np.array([[1.0, 1.0, 2.0], [0.0, 0.0, 0.0]]), "bias": 0, "output": 0}
    prior = wp.hierarchical_prior(
        NET.bnn,
        {"in": ["hidden_0.weight"]},
        center=None,
        base=NET.prior(loc=loc),
        standardised={"hidden_0.weight": dist.Cauchy()},
    )
    known = wp.NormalPrior(prior.loc, prior.scale)
    assert np.isinf(known.scale["hidden_0.weight"]).all()
    [free] = symmetries(NET.bnn, known, proper={"hidden_0.weight"})
    assert free.classes.tolist() == [0, 0, 1]
    assert not free.mirrorable.any()
    [flat] = symmetries(NET.bnn, known)
    assert flat.classes.tolist() == [0, 0, 0]
    assert flat.mirrorable.all()


def test_a_run_goes_on_to_the_last_bit(tmp_path):
    options = {"num_warmup": 30, "num_chains": 2}
    whole = fit("hmc", NET, PRIORS[BOTH], num_samples=40, **options)
    half = fit("hmc", NET, PRIORS[BOTH], num_samples=20, **options)
    kept = options | {"num_samples": 40, "init": half, "checkpoint": tmp_path}
    for _ in range(2):  # from the fit, and from the folder
        on = fit("hmc", NET, PRIORS[BOTH], **kept)
        xr.testing.assert_identical(on["posterior"].dataset, whole["posterior"].dataset)
    with pytest.raises(ValueError, match=r"prior.*StudentT"):
        fit("hmc", NET, LEARNED["Laplace and Student"], checkpoint=tmp_path, **options)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit_mcmc")  # of two draws nothing can be said
def test_it_starts_where_it_is_told():
    weights = {name: np.full(site.shape, 0.5) for name, site in NET.bnn.sites.items()}
    options = {"num_warmup": 0, "num_samples": 1, "num_chains": 2}
    learned = fit("hmc", NET, LEARNED["horseshoe"], init=weights, **options)
    for start in (fit("map", NET, NET.prior()), learned):
        found = fit("hmc", NET, LEARNED["horseshoe"], init=start, **options)
        assert np.isfinite(found["sample_stats"]["lp"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kernel", EXACT_KERNELS)
@pytest.mark.filterwarnings("ignore:fit_mcmc", "ignore:simulation_based_calibration.*fits warned")
def test_fits_are_calibrated(kernel):
    base = LINEAR.prior(loc=CENTRE)
    prior = wp.hierarchical_prior(LINEAR.bnn, "kind", log_scale=(-0.5, 0.5), base=base)
    options = {"num_samples": 1000, "target_accept_prob": 0.95, "progress_bar": False}
    fitted = partial(wp.fit_mcmc, kernel=kernel, **options)
    at = LINEAR.x[:3]
    found = wp.simulation_based_calibration(
        LINEAR.bnn, LINEAR.x, prior=prior, fit=fitted, at=at, level=1e-3
    )
    assert "rank.center.weight" in found
    assert found["calibrated"], found[[name for name in found if "p_value" in str(name)]]
