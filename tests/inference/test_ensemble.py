"""Ensembles: draws where the model is linear, the spread of the posterior elsewhere."""

from functools import cache, partial

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from jax.flatten_util import ravel_pytree
from scipy import stats

import oracle
import weightprior as wp
from assertions import assert_estimate, threshold
from problems import (
    CENTRE,
    LINEAR,
    LINEAR_PRIORS,
    NET,
    VAGUE,
    assert_moving_the_prior_moves_the_weights,
    exact,
)
from shared_fits import LIKELIHOODS, random_targets, random_weights
from weightprior.fits.problem import Problem
from weightprior.fits.propriety import Open
from weightprior.fits.task import Task
from weightprior.inference._coordinates.randomised import Member, Randomised
from weightprior.inference._optima.collapse import Collapse
from weightprior.inference._optima.search import Search
from weightprior.inference.ensemble import _warn_unconverged
from weightprior.model import density
from weightprior.model.curvature import gauss_newton

# What only tests run, once or twice, takes longer to optimise than to run.
UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
compiled = partial(jax.jit, compiler_options=UNOPTIMISED)

MANY = 2000
# Forty rows of noise 0.4 know as much of a weight as a prior of scale 0.06: an error in either
# would show.
AS_STRONG_AS_THE_DATA = LINEAR.prior(loc=CENTRE, scale=0.06)
COUNTS = np.tile([2.0, 0.0, 0.3, 1.0], 10)


def fit(problem, prior, **options):
    return wp.fit_ensemble(problem.bnn, problem.x, problem.y, prior=prior, **options)


def assert_moments(draws, mean, covariance, comparisons=1):
    """Mean and covariance of independent normal draws, ``(draw, ...)``.

    The mean's error is that of so many draws, and that of a covariance follows from Wishart's
    distribution: its entry i, j has the variance (C_ii C_jj + C_ij^2) / n.
    """
    count, size = draws.shape
    total = comparisons * (size + size * (size + 1) // 2)
    variance = np.diag(covariance)
    assert_estimate(draws.mean(0), mean, np.sqrt(variance / count), num_comparisons=total)
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / count)
    found = np.cov(draws.T)
    assert_estimate(found, covariance, error, num_comparisons=total, label="covariance")


@pytest.mark.parametrize("name", LINEAR_PRIORS)
def test_of_a_linear_model_members_are_draws_of_the_posterior(name):
    prior = LINEAR.prior(**LINEAR_PRIORS[name])
    found = fit(LINEAR, prior, num_members=MANY, log_likelihood=False)
    assert found.attrs["exact"] == 1
    draws, known = oracle.from_sites(found["posterior"])[:, 0], exact(prior)
    assert draws.shape == (MANY, 4)
    assert_moments(draws, known.mean, known.covariance, len(LINEAR_PRIORS))


def test_rows_that_count_differently_are_exact_too():
    """A row that counts c times has the noise sd over the root of c."""
    prior, there = AS_STRONG_AS_THE_DATA, COUNTS > 0
    broken = np.where(there, LINEAR.y, 1e6)  # no matter what is said there
    options = {"num_members": MANY, "row_weights": COUNTS, "log_likelihood": False}
    found = fit(LINEAR._replace(y=broken), prior, **options)
    roots = np.sqrt(COUNTS[there])
    # Rows times roots, the bias's column too: a Gaussian model without a bias, in three lines.
    design = oracle.design(LINEAR.x)[there] * roots[:, None] / LINEAR.bnn.likelihood.noise
    loc, scale = oracle.from_sites(prior.loc), oracle.from_sites(prior.scale)
    covariance = np.linalg.inv(design.T @ design + np.diag(scale**-2))
    scaled = LINEAR.y[there] * roots / LINEAR.bnn.likelihood.noise
    mean = covariance @ (design.T @ scaled + loc / scale**2)
    assert_moments(oracle.from_sites(found["posterior"])[:, 0], mean, covariance)


@pytest.mark.slow
def test_moving_the_prior_moves_the_weights():
    assert_moving_the_prior_moves_the_weights("ensemble")


@pytest.mark.slow
def test_without_data_members_are_their_anchors():
    prior = VAGUE.prior(loc={"weight": -3.0, "bias": 5.0}, scale={"weight": 2.0, "bias": 0.01})
    found = fit(VAGUE, prior, num_members=500)
    z = [
        ((found["posterior"][name] - prior.loc[name]) / prior.scale[name]).to_numpy().ravel()
        for name in VAGUE.bnn.sites
    ]
    assert stats.kstest(np.concatenate(z), "norm").pvalue > 1e-6
    assert bool((found["sample_stats"]["num_iterations"] == 0).all())


# Searches for the one optimum of a linear model, so short that they end apart.
_apart = {"prior": LINEAR.prior(), "rng_key": 3, "max_iterations": 3}


@cache
def deep():
    with pytest.warns(UserWarning, match="6 of 6 .*Raise max_iterations"):
        return fit(LINEAR, anchored=False, num_members=6, **_apart)


def test_members_of_a_deep_ensemble_are_the_restarts_of_a_map():
    with pytest.warns(UserWarning, match="Raise max_iterations"):
        found = wp.fit_map(LINEAR.bnn, LINEAR.x, LINEAR.y, num_restarts=6, **_apart)
    restarts, members = found["restarts"].dataset, deep()
    order = np.argsort(-members["sample_stats"]["lp"].to_numpy()[:, 0], kind="stable")
    assert len(np.unique(restarts["lp"])) == 6
    for name in LINEAR.bnn.sites:
        ours = members["posterior"][name].to_numpy()[order, 0]
        np.testing.assert_array_equal(ours, restarts[name])
    for name in ("converged", "gradient_norm", "num_iterations"):
        ours = members["sample_stats"][name].to_numpy()[order, 0]
        np.testing.assert_array_equal(ours, restarts[name])
    assert np.any(order != np.arange(6))  # they come in the order of their starts


def test_lp_is_that_of_the_prior_and_data_that_were_given():
    prior = LINEAR.prior(loc=0.3)
    found = fit(LINEAR, prior, row_weights=COUNTS)
    weights = {name: found["posterior"][name].to_numpy()[:, 0] for name in LINEAR.bnn.sites}
    with jax.enable_x64(True):
        joint = jax.vmap(lambda w: LINEAR.bnn.log_joint(w, LINEAR.x, LINEAR.y, prior, COUNTS))
        lp = compiled(joint)(weights)
    np.testing.assert_allclose(found["sample_stats"]["lp"][:, 0], lp, rtol=1e-9)
    assert found["sample_stats"]["converged"].all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_what_is_added_to_a_row_scatters_as_its_information(name):
    """Where targets are the model's own: the mean of the gradients' squares over such targets."""
    bnn, rng = LIKELIHOODS[name], np.random.default_rng(2)
    weights = {n: w[0, 0] for n, w in random_weights(bnn, rng, (1, 1)).items()}
    x = rng.normal(size=(1, 2))
    y = random_targets(bnn, weights, np.repeat(x, 4000, axis=0), rng)[:, None].astype(float)

    @compiled
    def both(weights, y):
        flat, unravel = ravel_pytree(weights)

        def squares(y):
            def terms(vector):
                moved = unravel(vector)
                output = density.outputs(bnn, moved, x)
                found = bnn.likelihood.random_terms(output, moved, y)
                return jnp.concatenate([t.ravel() for t in found])

            jacobian = jax.jacfwd(terms)(flat)
            return jacobian.T @ jacobian

        expected = gauss_newton(bnn, unravel, flat, x, y[0], jnp.ones(1))
        return jax.vmap(squares)(y), expected

    with jax.enable_x64(True):
        found, expected = map(np.asarray, both(weights, y))
    # Those of most likelihoods are the same whatever the target is, and only rounded.
    error = np.hypot(found.std(0, ddof=1) / np.sqrt(4000), 1e-10)
    assert_estimate(found.mean(0), expected, error, num_comparisons=8 * expected.size)


def test_random_multiples_have_the_variance_that_rows_count():
    bnn, counts = LIKELIHOODS["gaussian, two outputs"], np.repeat([0.0, 0.3, 1.0, 2.0], 4000)
    x, y = np.zeros((16_000, 2)), np.zeros((16_000, 2))

    @compiled
    def drawn(task, key):
        return Randomised(bnn, x, y, Member(task, key), np.float64).multiples

    with jax.enable_x64(True):
        multiples = drawn(Task(wp.normal_prior(bnn), counts), jax.random.key(0))
    for found in multiples:
        by_count = np.asarray(found).reshape(4, -1)
        assert np.all(by_count[0] == 0)
        for variance, numbers in zip([0.3, 1.0, 2.0], by_count[1:], strict=True):
            error = np.sqrt(variance / numbers.size)
            assert_estimate(numbers.mean(), 0.0, error, num_comparisons=12)
            # The largest kurtosis is that of a gamma number: 3 + 6 / variance.
            error = variance * np.sqrt((2 + 6 / variance) / numbers.size)
            assert_estimate(numbers.var(), variance, error, num_comparisons=12)
    assert np.all(np.asarray(multiples.counted) >= -counts[:, None])


SPREAD = {
    "bernoulli": (wp.Bernoulli(), lambda rng, f: rng.uniform(size=f.size) < 1 / (1 + np.exp(-f))),
    # Ten times as variable as the model thinks, which must not matter: the posterior does not know.
    "poisson": (wp.Poisson(), lambda rng, f: rng.poisson(np.exp(f) * rng.gamma(0.1, 10.0, f.size))),
    "noise learned": (wp.Gaussian(), lambda rng, f: rng.normal(f, 0.7)),
}


@pytest.mark.parametrize("name", SPREAD)
@pytest.mark.slow
def test_of_many_rows_members_scatter_as_the_posterior(name):
    likelihood, targets = SPREAD[name]
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 2))
    y = targets(rng, x @ [0.8, -0.5] + 0.3).astype(float)
    bnn = wp.BNN(wp.mlp(2, hidden=()), likelihood)
    prior = wp.normal_prior(bnn, loc=0.2)
    found = wp.fit_ensemble(bnn, x, y, prior=prior, num_members=1000)
    assert found.attrs["exact"] == 0
    start = {n: found["posterior"][n].mean(("chain", "draw")).to_numpy() for n in bnn.sites}
    with jax.enable_x64(True):
        mode, unravel = ravel_pytree(jax.tree.map(jnp.asarray, start))

        @jax.jit
        def slopes(v):
            def loss(v):
                return -bnn.log_joint(unravel(v), x, y, prior)

            return jax.grad(loss)(v), jax.hessian(loss)(v)

        for _ in range(10):  # Newton's method
            gradient, hessian = slopes(mode)
            mode = mode - jnp.linalg.solve(hessian, gradient)
    assert np.abs(gradient).max() < 1e-9
    members = [found["posterior"][n].to_numpy().reshape(1000, -1) for n in sorted(start)]
    covariance = np.linalg.inv(hessian)
    # To first order; the next one is of the order of weights per row, 4 / 600, which is far below
    # the relative Monte-Carlo error of a variance, sqrt(2 / 1000).
    draws = np.concatenate(members, axis=1)
    assert_moments(draws, draws.mean(0), covariance, len(SPREAD))


# What a fit says, and what can be done with it.


def test_members_can_be_compared_and_saved(tmp_path):
    found = fit(LINEAR, LINEAR.prior(), num_members=400)
    known = exact(LINEAR.prior())
    table = wp.compare(LINEAR.bnn, {"members": found}, LINEAR.x, LINEAR.y).loc["members"]
    assert np.isnan(table["rhat"])
    assert np.isnan(table["ess"])
    reason = "draws from an approximation are independent, not chains"
    assert reason in table["note"]
    # Whose log densities vary by so much among draws, and of which 400 were drawn.
    spread = found["log_likelihood"]["y"].std("chain").mean().item()
    assert table["elpd_loo"] == pytest.approx(
        known.loo.mean(), abs=threshold(1) * spread / 400**0.5
    )
    verdict = wp.diagnostics.convergence(LINEAR.bnn, found, LINEAR.x)["verdict"].item()
    assert verdict == f"Not judged: {reason}."
    assert az.summary(found, kind="stats").shape[0] == 4
    found.to_netcdf(tmp_path / "fit.nc")
    again = az.from_netcdf(tmp_path / "fit.nc")
    xr.testing.assert_identical(again["posterior"].dataset, found["posterior"].dataset)


def test_a_deep_ensemble_has_no_loo():
    table = wp.compare(LINEAR.bnn, {"deep": deep()}).loc["deep"]
    assert np.isnan(table["elpd_loo"])
    assert "members of an ensemble are separate optima, not chains" in table["note"]
    assert "no LOO: members of a deep ensemble are modes, not draws" in table["note"]


def test_an_ensemble_can_be_cross_validated():
    found = wp.cross_validate(
        LINEAR.bnn, LINEAR.x, LINEAR.y, prior=LINEAR.prior(), num_folds=8,
        fit=partial(wp.fit_ensemble, num_members=100),
    )  # fmt: skip
    assert found["converged"].all()
    # A density is the mean of those of a hundred members, p = N(y; f, s), where f is normal with
    # mean m and variance v: p has the mean N(y; m, s^2 + v), and p^2 has N(y; m, s^2 / 2 + v) over
    # 2 s sqrt(pi).
    noise, fold_of_row = LINEAR.bnn.likelihood.noise, found["fold_of_row"].to_numpy()
    off, v = np.empty((2, 40))
    for fold in range(8):
        there = fold_of_row == fold
        assert there.sum() == 5
        known = oracle.LinearGaussian(LINEAR.x[~there], LINEAR.y[~there], noise, 0.0, 1.0)
        columns = oracle.design(LINEAR.x[there])
        off[there] = LINEAR.y[there] - columns @ known.mean
        v[there] = ((columns @ known.covariance) * columns).sum(1)
    expected = stats.norm.pdf(off, 0, np.sqrt(noise**2 + v))
    squared = stats.norm.pdf(off, 0, np.sqrt(noise**2 / 2 + v)) / (2 * noise * np.sqrt(np.pi))
    error = np.sqrt((squared / expected**2 - 1) / 100)
    assert_estimate(np.exp(found["elpd_i"]) / expected, 1.0, error)


def test_members_cut_short_are_counted():
    with pytest.warns(
        UserWarning, match="10 of 10 .*max_iterations=3. Raise max_iterations"
    ) as caught:
        found = fit(LINEAR, LINEAR.prior(), max_iterations=3)
    assert caught[0].filename == __file__
    assert "10 of 10 members not converged" in wp.compare(LINEAR.bnn, {"e": found})["note"].item()
    stack = wp.stack_priors({"easy": LINEAR.prior(scale=1e-6), "hard": LINEAR.prior()})
    with pytest.warns(UserWarning, match="10 of 10 under prior 'hard'") as caught:
        fit(LINEAR, stack, max_iterations=3)
    assert "'easy'" not in str(caught[0].message)


def test_kinks_are_given_as_a_reason():
    relu = wp.BNN(wp.mlp(2, hidden=(3,), activation="relu"), wp.Gaussian(noise=0.5))
    problem = Problem.checked(relu, NET.x, NET.y, prior=wp.normal_prior(relu))
    members = {"converged": [True, False], "gradient_norm": [0, 1], "num_iterations": [5, 9]}
    arrays = {name: np.array(values) for name, values in members.items()}
    none = [[Collapse(np.inf, 1.0)] * 2]
    with pytest.warns(UserWarning, match=r"1 of 2 \(gradient norm up to 1.0e\+00\).*lie on kinks"):
        _warn_unconverged(problem, Search("fit_ensemble", 5000, 1e-6), [arrays], none, [Open()])


@pytest.mark.filterwarnings("ignore:y. mean")  # which tells of it first
def test_a_broken_member_is_named():
    with pytest.raises(FloatingPointError, match=r"members ended in .* member 0\. Standardise"):
        fit(LINEAR._replace(y=1e200 * LINEAR.y), LINEAR.prior())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_members": 0}, ValueError),
        ({"anchored": "yes"}, TypeError),
        ({"max_iterations": 0}, ValueError),
        ({"tolerance": 0.0}, ValueError),
        ({"rng_key": 1.5}, TypeError),
        ({"prior": wp.hierarchical_prior(NET.bnn)}, TypeError),
    ],
)
def test_an_option_that_cannot_be_is_named(options, error):
    with pytest.raises(error, match=next(iter(options))):
        wp.fit_ensemble(NET.bnn, NET.x, NET.y, **{"prior": NET.prior()} | options)
