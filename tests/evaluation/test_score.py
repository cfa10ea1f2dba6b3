"""Scores against plain sums, quadrature and closed forms; nothing here is sampled but the CRPS."""

from functools import cache
from importlib import import_module

import numpy as np
import pytest
import xarray as xr
from scipy import special, stats

import shared_fits as fits
import weightprior as wp
from assertions import assert_estimate
from oracle import design
from shared_fits import (
    CLASSES,
    EXACT,
    EXACT_DRAWS,
    FRAME,
    LIKELIHOODS,
    LINEAR,
    NUMBERS,
    REGRESSION,
    ROUNDING,
    TARGET,
    case,
    drawn,
    exact_fit,
)

LEVELS = np.arange(1, 20) / 20
MODULE = import_module("weightprior.evaluation._metrics")


def score(name, **changes):
    given = case(name)._replace(**changes)
    return wp.score(given.bnn, given.fit, given.x, given.y)


def flat(draws):
    """Draws of all chains in one row."""
    return draws.reshape(-1, *draws.shape[2:])


def quantiles(given):
    """Probability of less than y, and of at most y, under the mixture over draws."""
    law = fits.law(given.bnn, given.weights, given.x)
    below = law.cdf(given.y - 1) if given.bnn.likelihood.step else law.cdf(given.y)
    return flat(below).mean(0), flat(law.cdf(given.y)).mean(0)


@pytest.mark.parametrize("name", LIKELIHOODS)
class TestEveryLikelihood:
    def test_variables_and_dims(self, name):
        per_output = ("output",) if case(name).y.ndim == 2 else ()
        expected = {
            "elpd": (),
            "elpd_se": (),
            "elpd_i": ("obs_id",),
            "calibration_error": per_output,
        }
        if name in CLASSES:
            expected |= {"accuracy": per_output, "brier": per_output}
        else:
            expected |= dict.fromkeys(("rmse", "r2", "crps"), per_output)
            expected |= {"coverage": ("level", *per_output)}
        found = score(name)
        assert {n: v.dims for n, v in found.data_vars.items()} == expected
        if name in NUMBERS:
            np.testing.assert_array_equal(found["level"], LEVELS.round(2))

    def test_elpd_is_the_log_of_the_mean_density(self, name):
        given, found = case(name), score(name)
        density = np.exp(fits.log_density(given.bnn, given.weights, given.x, given.y))
        expected = np.log(flat(density).mean(0))
        np.testing.assert_allclose(found["elpd_i"], expected, **ROUNDING)
        np.testing.assert_allclose(found["elpd"], expected.sum(), **ROUNDING)
        np.testing.assert_allclose(
            found["elpd_se"], stats.sem(expected) * len(expected), **ROUNDING
        )


@pytest.mark.parametrize("name", NUMBERS)
class TestNumbers:
    def test_rmse_is_that_of_the_mean_prediction(self, name):
        given = case(name)
        mean = flat(fits.mean(given.bnn, given.weights, given.x)).mean(0)
        expected = np.sqrt(((given.y - mean) ** 2).mean(0))
        np.testing.assert_allclose(score(name)["rmse"], expected, **ROUNDING)

    def test_r2_is_scikit_learns(self, name):
        r2_score = pytest.importorskip("sklearn.metrics").r2_score
        given = case(name)
        mean = flat(fits.mean(given.bnn, given.weights, given.x)).mean(0)
        expected = r2_score(given.y, mean, multioutput="raw_values")
        np.testing.assert_allclose(score(name)["r2"], np.squeeze(expected), **ROUNDING)

    def test_coverage_counts_quantiles_inside_the_central_interval(self, name):
        below, upto = quantiles(case(name))
        # A count stands for all quantiles of its step. The grid cuts each of the two ends of an
        # interval to within one of its cells.
        cells = 10_000 if name == "poisson" else 1
        share = (np.arange(cells) + 0.5) / cells
        quantile = below + share.reshape(-1, *[1] * below.ndim) * (upto - below)
        expected = [(np.abs(2 * quantile - 1) <= level).mean((0, 1)) for level in LEVELS]
        atol = 2 / cells if name == "poisson" else 0
        np.testing.assert_allclose(score(name)["coverage"], expected, rtol=0, atol=atol)

    def test_calibration_error_is_the_mean_distance_from_the_level(self, name):
        found = score(name)
        expected = abs(found["coverage"] - found["level"]).mean("level")
        np.testing.assert_allclose(found["calibration_error"], expected, **ROUNDING)

    def test_crps_is_the_integral_over_squared_distances(self, name):
        given = case(name)
        expected, error = crps_by_quadrature(fits.law(given.bnn, given.weights, given.x), given.y)
        assert_estimate(score(name)["crps"], expected, error)


def crps_by_quadrature(law, y, num_noisy=4000):
    """Mean CRPS over rows, and the standard error of its estimate from so many noisy draws.

    With F the predictive distribution function and D(z) = 1{z >= y} - F(z), the score is the
    integral of D^2. The estimate is a U-statistic, whose variance is that of its projection,
    twice the integral of D up to the draw, divided by the number of draws.
    """
    if hasattr(law.dist, "pmf"):
        grid, step = np.broadcast_to(np.arange(200)[:, None], (200, len(y))), 1
    else:
        # Midpoints of cells that end at y, where D jumps.
        offsets = np.arange(-20.0, 20.0, 0.1).reshape(-1, *[1] * y.ndim)
        grid, step = y + offsets + 0.05, 0.1
    cdf = np.stack([law.cdf(z).mean((0, 1)) for z in grid])
    distance = (grid >= y) - cdf
    projection = 2 * step * (np.cumsum(distance, axis=0) - distance)
    weight = np.diff(cdf, axis=0, prepend=0)
    variance = (weight * projection**2).sum(0) - (weight * projection).sum(0) ** 2
    scores = step * (distance**2).sum(0)
    return scores.mean(0), np.sqrt((variance / num_noisy).sum(0)) / len(y)


@pytest.mark.parametrize("name", CLASSES)
class TestClasses:
    def test_scores_of_the_mean_probabilities(self, name):
        given, rng = case(name), np.random.default_rng(5)
        # Draws around one confident network, and rows enough to find it too sure in one bin of
        # probability and not sure enough in the next.
        weights = {site: w + 5 * w[0, 0] for site, w in given.weights.items()}
        fit, x = fits.light_fit(given.bnn, given.x, given.y, weights), rng.normal(size=(50, 2))
        p = flat(fits.mean(given.bnn, weights, x)).mean(0)
        p = p if name == "categorical" else np.stack([1 - p, p], axis=-1)
        y = (rng.random(p.shape[:-1])[..., None] > p.cumsum(-1)).sum(-1)
        found = score(name, fit=fit, x=x, y=y)

        np.testing.assert_allclose(found["accuracy"], (p.argmax(-1) == y).mean(0), **ROUNDING)
        came = np.stack([y == k for k in range(p.shape[-1])], axis=-1)
        error = 0.0
        for low in np.arange(10) / 10:
            inside = (p >= low) & (p < low + 0.1)
            error = error + abs(((p - came) * inside).sum(0)) / len(y)
        np.testing.assert_allclose(found["calibration_error"], error.mean(-1), **ROUNDING)
        brier = pytest.importorskip("sklearn.metrics").brier_score_loss
        columns = [(y, p)] if y.ndim == 1 else [(y[:, i], p[:, i]) for i in range(y.shape[1])]
        labels = range(p.shape[-1])
        expected = [
            brier(a, b[:, 1]) if len(labels) == 2 else brier(a, b, labels=labels)
            for a, b in columns
        ]
        np.testing.assert_allclose(np.atleast_1d(found["brier"]), expected, **ROUNDING)


class TestLinearGaussian:
    """Independent draws from the exact posterior meet the exact predictive distribution."""

    X = np.random.default_rng(2).normal(size=(8, 2))
    Y = np.linspace(-2.0, 2.0, 8)

    @classmethod
    @cache
    def scores(cls):
        return wp.score(LINEAR, exact_fit(), cls.X, cls.Y)

    def test_elpd(self):
        fitted_values = EXACT_DRAWS @ design(self.X).T
        density = flat(stats.norm.pdf(self.Y, fitted_values, 0.5))
        # The error of a log is the relative error.
        error = stats.sem(density) / density.mean(0)
        expected = EXACT.log_predictive(self.X, self.Y)
        assert_estimate(self.scores()["elpd_i"], expected, error)

    def test_rmse(self):
        residual = self.Y - EXACT.predictive_mean(self.X)
        expected = np.sqrt((residual**2).mean())
        # The derivative by the mean prediction, times the prediction of every draw.
        influence = flat(EXACT_DRAWS @ design(self.X).T) @ residual / (8 * expected)
        assert_estimate(self.scores()["rmse"], expected, stats.sem(influence))

    def test_crps(self):
        mean, sd = EXACT.predictive_mean(self.X), EXACT.predictive_sd(self.X)
        # Of the noisy draws only as many are independent as there are draws of the weights.
        law = stats.norm(mean[None, None], sd[None, None])
        _, error = crps_by_quadrature(law, self.Y, num_noisy=1000)
        assert_estimate(self.scores()["crps"], gaussian_crps(self.Y, mean, sd).mean(), error)


def gaussian_crps(y, mean, sd):
    z = (y - mean) / sd
    return sd * (z * (2 * special.ndtr(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))


def points(*draws):
    """A fit of one point for every prior, and these."""
    given = case("gaussian")
    weights = [{site: w[:1, i : i + 1] for site, w in given.weights.items()} for i in draws]
    priors = {i / 4: wp.normal_prior(given.bnn) for i in draws}
    prior = wp.stack_priors(priors) if len(draws) > 1 else None
    return fits.light_fit(given.bnn, given.x, given.y, *weights, prior=prior), weights


def test_crps_of_a_map_meets_the_closed_form():
    given, (fit, [weights]) = case("gaussian"), points(0)
    y = given.y + np.linspace(-1, 1, 8)
    law = fits.law(given.bnn, weights, given.x)
    _, error = crps_by_quadrature(law, y)
    expected = gaussian_crps(y, law.mean(), law.std()).mean()
    assert_estimate(score("gaussian", fit=fit, y=y)["crps"], expected, error)


@pytest.mark.parametrize("name", ["student", "poisson"])
def test_targets_of_the_model_itself_are_covered(name, monkeypatch):
    given, rng = case(name), np.random.default_rng(4)
    x = rng.normal(size=(600, 2))
    # Every row from a draw of its own: the predictive distribution is the mixture of all.
    chosen = rng.integers(fits.NUM_CHAINS * fits.NUM_DRAWS, size=len(x))
    weights = {site: flat(w)[chosen] for site, w in given.weights.items()}
    y = fits.law(given.bnn, weights, x[:, None]).rvs(random_state=rng)[:, 0]
    monkeypatch.setattr(
        MODULE, "_NUMBERS_AT_ONCE", 4000 * 8
    )  # blocks of a shape that is compiled already
    error = np.sqrt(LEVELS * (1 - LEVELS) / len(y))
    assert_estimate(score(name, x=x, y=y)["coverage"], LEVELS, error)


def test_one_row_has_no_standard_error():
    found = score("bernoulli", x=case("bernoulli").x[:1], y=case("bernoulli").y[:1])
    np.testing.assert_allclose(found["elpd_i"], score("bernoulli")["elpd_i"][:1], **ROUNDING)
    assert {name for name, v in found.data_vars.items() if v.isnull().any()} == {"elpd_se"}


def test_rows_are_scored_in_blocks_as_they_are_at_once(monkeypatch):
    whole = score("bernoulli, two outputs")
    monkeypatch.setattr(MODULE, "_NUMBERS_AT_ONCE", 4000 * 5)  # blocks of 5 and 3 rows
    xr.testing.assert_allclose(score("bernoulli, two outputs"), whole, **ROUNDING)


def chains():
    """A fit under two priors, of draws that are not the same."""
    given = case("gaussian")
    prior = wp.stack_priors(
        {"narrow": wp.normal_prior(given.bnn, scale=0.5), "wide": wp.normal_prior(given.bnn)}
    )
    others = {site: w[:, ::-1] + 0.1 for site, w in given.weights.items()}
    return fits.light_fit(given.bnn, given.x, given.y, given.weights, others, prior=prior)


@pytest.mark.parametrize("make", [chains, lambda: points(0, 1, 2)[0]], ids=["chains", "points"])
def test_stacked_priors_are_scored_as_each_by_itself(make):
    fit = make()
    found = score("gaussian", fit=fit)
    assert found["elpd_i"].dims == ("prior", "obs_id")
    assert len(np.unique(found["elpd"])) == found.sizes["prior"] > 1
    for label, part in wp.unstack_fit(fit).items():
        xr.testing.assert_identical(found.sel(prior=label, drop=True), score("gaussian", fit=part))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": np.zeros(7)}, r"y: expected shape \(8,\)"),
        ({"y": np.full(8, np.nan)}, "y: expected finite numbers"),
        ({"x": np.zeros((8, 3))}, r"x: expected shape \(rows, 2\)"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "x: expected at least one row"),
        ({"fit": case}, "fit: expected the DataTree"),
    ],
)
def test_wrong_input_raises(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        score("gaussian", **changes)


def test_columns_of_a_frame_have_to_be_the_networks():
    with pytest.raises(ValueError, match="Reorder them"):
        wp.score(REGRESSION, drawn("hmc"), FRAME[["dose", "age"]], TARGET)


def test_a_row_that_few_draws_decide_about_is_told_of():
    fit, x, y = exact_fit(), FRAME.to_numpy()[:3], TARGET[:3]
    with pytest.warns(UserWarning, match=r"density of 1 of 3 held-out rows \(obs_id 1\) rests on"):
        wp.score(LINEAR, fit, x, y + np.array([0.0, 30.0, 0.0]))
    wp.score(LINEAR, fit, x, y)  # in silence


def test_rows_without_a_density_are_named():
    fit, y = exact_fit(), np.asarray(TARGET).copy()
    y[[3, 5]] = 1e4
    with pytest.warns(UserWarning, match=r"score: without a density \(log") as caught:
        wp.score(LINEAR, fit, FRAME, y)
    [message] = [str(one.message) for one in caught if "without a density" in str(one.message)]
    assert "2 of 20 held-out rows (obs_id 3, 5), which dominate elpd" in message
