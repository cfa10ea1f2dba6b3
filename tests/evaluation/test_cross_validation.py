"""Cross-validation: exact where there is a closed form, and the loop over refits elsewhere.

Folds are of three or four rows, or of five, so that scores compile no more often than that.
"""

from functools import cache, partial

import numpy as np
import pytest
import xarray as xr
from arviz_stats.base import array_stats
from scipy import stats

import weightprior as wp
from assertions import threshold
from oracle import LinearGaussian, from_sites
from problems import LINEAR, LINEAR_PRIORS, NET
from shared_fits import LIKELIHOODS, random_targets, random_weights

NARROW, MOVED = NET.prior(scale=0.3), NET.prior(loc=0.4, scale=0.8)
STACK = wp.stack_priors({"narrow": NARROW, "moved": MOVED})
# A target that keeps these few rows' posteriors free of divergences.
MCMC = partial(wp.fit_mcmc, num_warmup=300, target_accept_prob=0.95)
LINEAR_MAP = partial(wp.fit_map, tolerance=1e-9)


def validated(problem, prior, **options):
    return wp.cross_validate(problem.bnn, problem.x, problem.y, prior=prior, **options)


def exact_without(fold_of_row, fold, prior):
    kept = fold_of_row != fold
    numbers = from_sites(prior.loc), from_sites(prior.scale)
    return LinearGaussian(LINEAR.x[kept], LINEAR.y[kept], LINEAR.bnn.likelihood.noise, *numbers)


@pytest.mark.parametrize("prior", LINEAR_PRIORS)
def test_map_of_a_linear_model_meets_the_closed_form(prior):
    prior = LINEAR.prior(**LINEAR_PRIORS[prior])
    found = validated(LINEAR, prior, fit=LINEAR_MAP, num_folds=8)
    fold_of_row = found["fold_of_row"].to_numpy()
    expected = np.empty(len(LINEAR.y))
    for fold in range(8):
        held = fold_of_row == fold
        location = exact_without(fold_of_row, fold, prior).predictive_mean(LINEAR.x[held])
        noise = LINEAR.bnn.likelihood.noise
        expected[held] = stats.norm.logpdf(LINEAR.y[held], location, noise)
    np.testing.assert_allclose(found["elpd_i"], expected, rtol=0, atol=1e-7)


@pytest.mark.slow
def test_leave_one_out_of_chains_meets_the_closed_form():
    prior = LINEAR.prior(**LINEAR_PRIORS["around 0"])
    few = LINEAR._replace(x=LINEAR.x[:8], y=LINEAR.y[:8])
    found = validated(few, prior, fit=MCMC, num_folds=8)
    numbers = from_sites(prior.loc), from_sites(prior.scale)
    expected = LinearGaussian(few.x, few.y, few.bnn.likelihood.noise, *numbers).loo
    # A density's mean over 4,000 draws: the relative error of the mean of exp(-r^2 / 2).
    error = _relative_error(few, prior, found)
    assert np.all(np.abs(found["elpd_i"] - expected) < threshold(8) * error)


def _relative_error(problem, prior, found):
    """Of a row's mean density over as many independent draws as an ESS of 1,000 stands for."""
    rng, errors = np.random.default_rng(0), []
    for row in range(len(problem.y)):
        kept = np.arange(len(problem.y)) != row
        numbers = from_sites(prior.loc), from_sites(prior.scale)
        noise = problem.bnn.likelihood.noise
        exact = LinearGaussian(problem.x[kept], problem.y[kept], noise, *numbers)
        fitted = exact.predictive_mean(problem.x[[row]])
        spread = exact.predictive_sd(problem.x[[row]], with_noise=False)
        density = stats.norm.pdf(problem.y[row], rng.normal(fitted, spread, 100_000), noise)
        errors.append(density.std() / density.mean() / np.sqrt(1000))
    return np.array(errors)


def fit_without(held, prior, fit=wp.fit_map, y_held=100.0):
    """A fit in which these rows do not count: far off, so that it is noticed where they do."""
    y = np.where(held, y_held, NET.y)
    return fit(NET.bnn, NET.x, y, prior=prior, row_weights=1.0 - held)


@pytest.mark.parametrize(
    "fit",
    [wp.fit_map, pytest.param(MCMC, marks=pytest.mark.slow), wp.fit_laplace],
    ids=["map", "hmc", "laplace"],
)
def test_it_is_the_loop_over_refits(fit):
    found = validated(NET, STACK, fit=fit, num_folds=4, rng_key=1)
    fold_of_row = found["fold_of_row"].to_numpy()
    for label, prior in {"narrow": NARROW, "moved": MOVED}.items():
        for fold in range(4):
            held = fold_of_row == fold
            x, y = NET.x[held], NET.y[held]
            alone = fit_without(held, prior, fit, NET.y)
            ours = found["elpd_i"].sel(prior=label).to_numpy()[held]
            expected = wp.score(NET.bnn, alone, x, y)["elpd_i"].to_numpy()
            if fit is wp.fit_map:  # optima to a gradient of 1e-6
                np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
            else:
                error = np.sqrt(2) * _error_of_log_mean(alone, held)
                assert np.all(np.abs(ours - expected) < threshold(30) * error)


def _error_of_log_mean(fit, rows):
    """Monte-Carlo error of every row's log predictive density, by the delta method."""
    density = np.exp(fit["log_likelihood"]["y"].to_numpy()[..., rows])
    mcse = array_stats.mcse(density, chain_axis=0, draw_axis=1, method="mean")
    return mcse / density.mean(axis=(0, 1))


def test_a_single_prior_needs_no_choice():
    single = validated(NET, MOVED, num_folds=4)
    stacked = validated(NET, STACK, num_folds=4)
    assert "prior" not in single.dims
    assert not {"best", "elpd_diff"} & set(single)
    for name in single:
        np.testing.assert_array_equal(single[name], stacked[name].sel(prior="moved"))


def test_the_choice_is_made_from_paired_differences():
    scales = (0.02, 0.2, 0.5, 1.0)
    path = wp.stack_priors({s: NET.prior(scale=s) for s in scales})
    found = validated(NET, path, num_folds=4)
    elpd = found["elpd_i"].to_numpy().sum(1)
    best = int(elpd.argmax())
    diff = found["elpd_i"].to_numpy() - found["elpd_i"].to_numpy()[best]
    error = np.sqrt(15) * diff.std(axis=1, ddof=1)
    np.testing.assert_allclose(found["elpd"], elpd)
    np.testing.assert_allclose(found["elpd_diff"], diff.sum(1), atol=1e-12)
    np.testing.assert_allclose(found["elpd_diff_se"], error, atol=1e-12)
    assert found["best"].item() == scales[best]
    within = [s for s, d, e in zip(scales, diff.sum(1), error, strict=True) if d >= -e]
    assert found["one_se"].item() == min(within)
    assert found["prob_best"].sum().item() == pytest.approx(1)
    assert best == 0
    rises = -diff.sum(1)[1] > error[1]
    told = "best at the lower end of the priors, 0.02 to 1: extend the grid below 0.02"
    assert found.attrs["note"] == (told if rises else "")
    note = wp.compare(NET.bnn, {"cv": found}).loc["cv[0.02]", "note"]
    assert ("extend the grid" in note) == rises
    again = validated(NET, path, num_folds=4)
    xr.testing.assert_identical(found["prob_best"], again["prob_best"])


def test_the_probability_of_being_best_is_that_of_the_bootstrap():
    """Of a hundred times as many samples of the rows, up to the error of the thousand."""
    found = of_two_scales()
    rng, terms = np.random.default_rng(0), found["elpd_i"].to_numpy()
    times_drawn = rng.multinomial(40, np.full(40, 1 / 40), size=100_000)
    won = np.argmax(terms @ times_drawn.T, axis=0)
    expected = np.bincount(won, minlength=2) / 100_000
    assert 0.01 < expected.min() < 0.49
    error = threshold(2) * np.sqrt(expected * (1 - expected) * (1 / 1000 + 1 / 100_000))
    assert np.all(np.abs(found["prob_best"] - expected) < error)


def test_the_probability_of_being_best_is_that_of_a_normal_difference():
    """Of two priors and many rows, up to the bootstrap's own error and the terms' skewness."""
    found = of_two_scales()
    worse = found.sel(prior=found["prior"] != found["best"]).squeeze()
    expected = stats.norm.cdf(worse["elpd_diff"] / worse["elpd_diff_se"])
    terms = found["elpd_i"].diff("prior").to_numpy()
    edgeworth = abs(stats.skew(terms, axis=None)) / np.sqrt(40)
    error = 4 * np.sqrt(expected * (1 - expected) / 1000) + edgeworth
    assert abs(worse["prob_best"].item() - expected) < error


@cache
def of_two_scales():
    path = wp.stack_priors({s: LINEAR.prior(scale=s) for s in (0.7, 1.0)})
    return validated(LINEAR, path, fit=LINEAR_MAP, num_folds=8)


def test_strength_is_judged_where_priors_are_not_flat():
    narrow, wide = ({"weight": s, "bias": np.inf} for s in (0.5, 0.501))
    path = wp.stack_priors({"w": NET.prior(scale=wide), "n": NET.prior(scale=narrow)})
    # Hardly different: whichever predicts better, the narrower one is as good.
    found = validated(NET, path, num_folds=4)
    close = abs(found["elpd_diff"]).max() <= found["elpd_diff_se"].max()
    assert found["one_se"].item() == ("n" if close else found["best"].item())


def test_means_over_folds_are_of_the_fits_to_them():
    found = validated(NET, MOVED, num_folds=4, rng_key=2)
    trains, norms, distances, numbers = [], [], [], []
    for fold in range(4):
        held = found["fold_of_row"].to_numpy() == fold
        alone = fit_without(held, MOVED)
        trains.append(alone["log_likelihood"]["y"][..., ~held].mean().item())
        row = wp.compare(NET.bnn, {"fit": alone}).loc["fit"]
        norms.append(row["norm"])
        distances.append(row["distance"])
        numbers.append(
            wp.diagnostics.effective_parameters(NET.bnn, alone, NET.x, NET.y)["gamma"].item()
        )
    for name, values in {
        "train": trains,
        "norm": norms,
        "distance": distances,
        "effective_parameters": numbers,
    }.items():
        np.testing.assert_allclose(found[name], np.mean(values), rtol=1e-5)


@cache
def of_likelihood(name):
    """A model, its data, and their cross-validation."""
    bnn, rng = LIKELIHOODS[name], np.random.default_rng(2)
    weights, x = random_weights(bnn, rng, ()), rng.normal(size=(20, 2))
    y = random_targets(bnn, weights, x, rng)
    prior = wp.normal_prior(bnn, scale=0.5)
    return bnn, x, y, wp.cross_validate(bnn, x, y, prior=prior, num_folds=4)


@pytest.mark.parametrize(
    "name",
    # All compile.
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name != "categorical"))
        for name in LIKELIHOODS
    ],
)
def test_every_likelihood_has_its_scores(name):
    bnn, x, y, found = of_likelihood(name)
    scores = wp.score(bnn, found)
    fit = wp.fit_map(bnn, x, y, prior=wp.normal_prior(bnn, scale=0.5))
    assert set(scores) == set(wp.score(bnn, fit, x[:5], y[:5]))
    assert found["converged"].all()
    assert found.sizes["fold"] == 4
    assert all(np.isfinite(found[name]).all() for name in found)


def test_classes_are_spread_evenly():
    _, _, y, found = of_likelihood("categorical")
    assert len(set(np.bincount(y))) == 3
    counts = np.array([np.bincount(y[found["fold_of_row"] == fold]) for fold in range(4)])
    assert np.all(np.ptp(counts, axis=0) <= 1)


def test_folds_are_as_even_as_can_be_and_follow_the_key():
    first, again, other = (validated(NET, NARROW, num_folds=4, rng_key=key) for key in (3, 3, 4))
    assert set(np.bincount(first["fold_of_row"])) == {3, 4}
    xr.testing.assert_identical(first.assign_attrs(seconds=0), again.assign_attrs(seconds=0))
    assert not np.array_equal(first["fold_of_row"], other["fold_of_row"])


def test_folds_can_be_given():
    folds = np.resize(["north", "south", "west", "east"], 15)
    found = validated(NET, NARROW, folds=folds)
    np.testing.assert_array_equal(found["fold_of_row"], folds)
    assert list(found["fold"].to_numpy()) == ["east", "north", "south", "west"]
    held = folds == "south"
    expected = wp.score(NET.bnn, fit_without(held, NARROW), NET.x[held], NET.y[held])["elpd_i"]
    np.testing.assert_allclose(found["elpd_i"][held], expected, atol=1e-5)


def test_it_is_scored_compared_and_saved(tmp_path):
    found = validated(NET, STACK, num_folds=4)
    fits = {"fit": wp.fit_map(NET.bnn, NET.x, NET.y, prior=NARROW), "held out": found}
    table = wp.compare(NET.bnn, fits)
    assert list(table.index) == ["fit", "held out[narrow]", "held out[moved]"]
    row = table.loc["held out[moved]"]
    part = found.sel(prior="moved")
    np.testing.assert_allclose(row["elpd_cv"], part["elpd"] / 15)
    np.testing.assert_allclose(row["elpd_cv_se"], part["elpd_se"] / 15)
    np.testing.assert_allclose(row["gap"], row["lpd_train"] - row["elpd_cv"])
    np.testing.assert_allclose(row["rmse"], part["rmse"])
    assert (row["method"], row["loc"], row["scale"]) == ("map", "0.4", "0.8")
    assert "4-fold cross-validation" in row["note"]
    assert np.isnan(table.loc["fit", "elpd_cv"])
    found.to_netcdf(tmp_path / "found.nc")
    with xr.open_dataset(tmp_path / "found.nc") as read:
        pd_table = wp.compare(NET.bnn, {"held out": read})
    assert pd_table["elpd_cv"].tolist() == table["elpd_cv"].tolist()[1:]


def test_what_did_not_converge_is_said():
    with pytest.warns(UserWarning, match="under prior 'prior, fold"):
        found = validated(NET, MOVED, num_folds=4, fit=partial(wp.fit_map, max_iterations=5))
    assert not found["converged"].any()
    note = wp.compare(NET.bnn, {"cv": found}).loc["cv", "note"]
    assert "4 of 4 fits not converged" in note


def test_scores_need_no_rows_beside_a_cross_validation():
    found = validated(NET, NARROW, num_folds=4)
    with pytest.raises(ValueError, match="Leave x, y and row_weights out"):
        wp.score(NET.bnn, found, NET.x, NET.y)
    with pytest.raises(TypeError, match="what cross_validate returns"):
        wp.score(NET.bnn, found.assign_attrs(function="other"))
    with pytest.raises(ValueError, match="expected one of this model"):
        wp.score(LINEAR.bnn, found)
    fit = wp.fit_map(NET.bnn, NET.x, NET.y, prior=NARROW)
    with pytest.raises(ValueError, match="y: expected held-out rows"):
        wp.score(NET.bnn, fit, NET.x)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_folds": 16}, ValueError, "num_folds: expected at most a fold per row, 15; got 16"),
        ({"num_folds": 1}, ValueError, "num_folds: expected at least 2"),
        ({"num_folds": 2.0}, TypeError, "num_folds"),
        ({"folds": np.zeros(15)}, ValueError, "folds: expected at least two"),
        ({"folds": [0, 1]}, ValueError, "folds: expected shape"),
        ({"folds": [None, *"abab", *"ab" * 5]}, ValueError, "got None for row 0"),
        ({"folds": [0.0, np.nan, *range(13)]}, ValueError, "got nan for row 1"),
        ({"fit": wp.predict}, TypeError, "fit: expected a fit function"),
        ({"fit": "map"}, TypeError, "fit: expected a fit function"),
        ({"rng_key": -1}, ValueError, "rng_key"),
        ({"prior": 1.0}, TypeError, "prior"),
    ],
)
def test_an_option_that_cannot_be_is_named(options, error, message):
    with pytest.raises(error, match=message):
        validated(NET, **{"prior": NARROW} | options)
