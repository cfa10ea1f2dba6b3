"""Data of the field: what went wrong for others is right here, or told with advice that works.

Coefficients of counts, with nothing else than a likelihood, are those of an independent maximiser.

Data sets of the field are looked for in a folder `shared/cases` beside the checkout, and tests that
need an absent one are skipped.
"""

import re
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import weightprior as wp
from weightprior.fits.problem import Problem

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "cases"
# Coefficients of statsmodels 0.15.0, the intercept first, and alpha, one over the concentration,
# last where there is one: of GLM with Poisson() and the offset log(Holders), of NegativeBinomial,
# and of GLM with Binomial(). Categories are dummies, the first of each left out.
STATSMODELS = {
    "Insurance": "-1.85141304  0.02586819  0.03852393  0.23420533  0.23147351 -0.16133698 "
    "0.40207536 -0.15394055  0.19101011 -0.3456606",
    "quine": "2.89458001 -0.56937173  0.08232029 -0.44842814  0.08808013  0.35690095 0.29210916 "
    "0.78437978",
    "badhealth": "0.40411554 1.107342   0.00695232 1.0025251",
    "esoph": "-6.89541517  1.98088457  3.77628647  4.33518167  4.89640585  4.82654201 3.60286881 "
    "1.43462868  1.98071729  0.43805245  0.51261806  1.64099733",
}
CATEGORIES = {
    "Insurance": ["District", "Group", "Age"],
    "quine": ["Eth", "Sex", "Age", "Lrn"],
    "badhealth": [],
    "esoph": ["agegp", "alcgp", "tobgp"],
}


class Given(NamedTuple):
    """A linear model of counts, and its data; the offset, where there is one, comes last."""

    bnn: wp.BNN
    x: np.ndarray
    y: np.ndarray

    @property
    def design(self):
        """What the coefficients multiply, and what is added."""
        inputs = self.x if self.bnn.network.offset is None else self.x[:, :-1]
        offset = 0.0 if self.bnn.network.offset is None else self.x[:, -1]
        return np.column_stack([np.ones(len(self.x)), inputs]), offset


def given(likelihood, x, y, offset=None):
    columns = x if offset is None else np.column_stack([x, offset])
    last = None if offset is None else columns.shape[1] - 1
    return Given(wp.BNN(wp.mlp(columns.shape[1], (), offset=last), likelihood), columns, y)


def generated(name):
    rng = np.random.default_rng(0)
    x, exposure = rng.normal(size=(30, 2)), rng.uniform(1, 20, 30)
    eta = 0.5 + x @ [0.6, -0.3]
    if name == "Binomial":
        trials = rng.integers(1, 30, 30)
        successes = rng.binomial(trials, special.expit(eta))
        return given(wp.Binomial(), x, np.column_stack([successes, trials - successes]))
    if name == "Poisson":
        return given(wp.Poisson(), x, rng.poisson(exposure * np.exp(eta)), np.log(exposure))
    mean = exposure * np.exp(eta)
    y = rng.poisson(mean * rng.gamma(2.0, 0.5, 30))
    return given(wp.NegativeBinomial(), x, y, np.log(exposure))


def of_the_field(name):
    frame = raw(name)
    if name == "esoph":
        frame = frame[frame["ncases"] + frame["ncontrols"] > 0]
    dummies = [pd.get_dummies(frame[c], drop_first=True).to_numpy(float) for c in CATEGORIES[name]]
    if name == "badhealth":
        return given(
            wp.NegativeBinomial(), frame[["badh", "age"]].to_numpy(float), frame["numvisit"]
        )
    x = np.column_stack(dummies)
    if name == "Insurance":
        return given(wp.Poisson(), x, frame["Claims"], np.log(frame["Holders"]))
    if name == "quine":
        return given(wp.NegativeBinomial(), x, frame["Days"])
    return given(wp.Binomial(), x, frame[["ncases", "ncontrols"]])


def ours(problem):
    """Coefficients at the maximum of the likelihood, the intercept first, then alpha."""
    bnn = problem.bnn
    # In units of their spread: a search for a flat optimum has no other.
    mean, spread = problem.x.mean(axis=0), problem.x.std(axis=0)
    if bnn.network.offset is not None:
        mean[-1], spread[-1] = 0.0, 1.0
    flat = wp.normal_prior(bnn, scale=np.inf, latents=dict.fromkeys(bnn.latents, (0.0, np.inf)))
    with jax.enable_x64(True):
        options = {"tolerance": 1e-9, "num_restarts": 2}
        fit = wp.fit_map(bnn, (problem.x - mean) / spread, problem.y, prior=flat, **options)
    assert fit["sample_stats"]["converged"].all()
    found = {name: values[0, 0].to_numpy() for name, values in fit["posterior"].items()}
    inputs = len(found["output.weight"])
    slopes = found["output.weight"][:, 0] / spread[:inputs]
    alpha = 1 / found["concentration"] if "concentration" in found else []
    return np.hstack([found["output.bias"] - mean[:inputs] @ slopes, slopes, alpha])


@cache
def theirs(find, name):
    """The maximum of the likelihood by numpy and scipy alone."""
    problem = find(name)
    design, offset = problem.design
    likelihood, y = problem.bnn.likelihood, np.asarray(problem.y, float)
    if likelihood.latents(1):
        return _negative_binomial(design, offset, y)
    successes, trials = (y, None) if y.ndim == 1 else (y[:, 0], y.sum(axis=1))
    coefficients = np.zeros(design.shape[1])
    coefficients[0] = 0.0 if trials is not None else np.log(y.mean() / np.exp(offset).mean())
    for _ in range(100):  # iteratively reweighted least squares, which is Newton's method
        eta = design @ coefficients + offset
        mean = np.exp(eta) if trials is None else trials * special.expit(eta)
        weight = mean if trials is None else mean * special.expit(-eta)
        step = np.linalg.solve(design.T @ (weight[:, None] * design), design.T @ (successes - mean))
        coefficients = coefficients + step
    assert np.abs(step).max() < 1e-10
    return coefficients


def _negative_binomial(design, offset, y):
    def loss(at):
        eta, c = design @ at[:-1] + offset, np.exp(at[-1])
        mean = np.exp(eta)
        terms = special.gammaln(y + c) - special.gammaln(c) + c * np.log(c / (c + mean))
        told = special.digamma(y + c) - special.digamma(c) + np.log(c / (c + mean))
        residual = (y - mean) * c / (c + mean)
        of_c = c * told - residual
        slope = np.append(design.T @ residual, of_c.sum())
        return -(terms + y * np.log(mean / (c + mean))).sum(), -slope

    start = np.append(np.zeros(design.shape[1]), 0.0)
    start[0] = np.log(y.mean()) - np.mean(offset)
    # Columns in units of their spread, beside which no direction is steep.
    scale = np.append(1 / np.maximum(np.abs(design).max(axis=0), 1e-9), 1.0)

    def scaled(at):
        value, slope = loss(scale * at)
        return value, scale * slope

    found = optimize.minimize(
        scaled, start / scale, jac=True, method="BFGS", options={"gtol": 1e-7, "maxiter": 5000}
    )
    at = scale * found.x
    assert np.abs(loss(at)[1] * scale).max() < 1e-4
    return np.append(at[:-1], np.exp(-at[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["NegativeBinomial", "Poisson", "Binomial"])
def test_a_flat_prior_has_the_maximum_of_the_likelihood(name):
    np.testing.assert_allclose(ours(generated(name)), theirs(generated, name), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATSMODELS)
def test_data_of_the_field_have_the_coefficients_of_statsmodels(name):
    found = ours(of_the_field(name))
    np.testing.assert_allclose(found, theirs(of_the_field, name), rtol=0, atol=1e-5)
    statsmodels = np.array(STATSMODELS[name].split(), float)
    np.testing.assert_allclose(found, statsmodels, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", STATSMODELS)
def test_the_maximiser_itself_is_statsmodels(name):
    statsmodels = np.array(STATSMODELS[name].split(), float)
    np.testing.assert_allclose(theirs(of_the_field, name), statsmodels, rtol=0, atol=1e-4)


def raw(name):
    path = FOLDER / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"{name}.csv is not distributed with the package")
    return pd.read_csv(path)


def standardised(values):
    return (values - values.mean(axis=0)) / values.std(axis=0)


HOUSES = ["sqrft", "lotsize", "bdrms"]


def followed(told, x, y):
    """Data as a warning advises."""
    names = {"x": x, "y": y}
    for argument, code in re.findall(r"Standardise (\w): (.*?)\.(?= |$)", told):
        names |= {argument: eval(code, {"x": x, "y": y})}
    return names["x"], names["y"]


def test_raw_prices_are_told_of_once_and_standardised_ones_are_not():
    rows = raw("hprice1")
    x, y = rows[HOUSES], 1000 * rows["price"]
    bnn = wp.BNN(wp.mlp(HOUSES, (8,)), wp.Gaussian())
    with pytest.warns(UserWarning, match="^x: the column .*: mean") as caught:
        Problem.checked(bnn, x, y, prior=wp.normal_prior(bnn))
    (told,) = [str(one.message) for one in caught]
    assert told.startswith("x: the column 'lotsize' has mean ")
    assert " y: mean 2.94e+05 and sd " in told
    Problem.checked(bnn, *followed(told, x, y), prior=wp.normal_prior(bnn))


@pytest.mark.parametrize("hidden", [(), (8,), (32,)])
def test_raw_reaction_times_are_told_of(hidden):
    """The fit would stay at 0, five sds of y away, and call the distance noise."""
    rows = raw("sleepstudy")
    x, y = rows[["Days"]], rows["Reaction"]
    bnn = wp.BNN(wp.mlp(["Days"], hidden), wp.Gaussian())
    with pytest.warns(UserWarning, match=r"^y: mean 299 and sd 56") as caught:
        Problem.checked(bnn, x, y, prior=wp.normal_prior(bnn))
    Problem.checked(bnn, *followed(str(caught[0].message), x, y), prior=wp.normal_prior(bnn))


@pytest.mark.slow
def test_prices_that_are_standardised_as_advised_are_fitted():
    rows = raw("hprice1")
    x, y = rows[HOUSES], 1000 * rows["price"]
    bnn = wp.BNN(wp.mlp(HOUSES, (8,)), wp.Gaussian())
    prior = wp.normal_prior(bnn)
    with pytest.warns(UserWarning, match="^x: the column .*: mean") as caught:
        fit = wp.fit_map(bnn, x, y, prior=prior)
    assert wp.score(bnn, fit, x, y)["rmse"] > y.std()
    x, y = followed(str(caught[0].message), x, y)
    fit = wp.fit_map(bnn, x, y, prior=prior)
    design = np.column_stack([np.ones(len(x)), x])
    line = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    assert wp.score(bnn, fit, x, y)["rmse"] < np.sqrt(np.mean((y - line) ** 2))


def left_out(x, y, of_row):
    """Log density of every row by least squares to the others, and the noise of their residuals."""
    found = np.empty(len(y))
    for label in np.unique(of_row):
        held = of_row == label
        line = np.linalg.lstsq(x[~held], y[~held], rcond=None)[0]
        noise = np.std(y[~held] - x[~held] @ line)
        found[held] = stats.norm.logpdf(y[held], x[held] @ line, noise)
    return found


@pytest.mark.slow
def test_rows_of_a_subject_are_not_independent():
    """The figures of the field: errors of 12.5 by row are 27.2 by subject."""
    rows = raw("sleepstudy")
    x, y, subject = rows[["Days"]] / 10, rows["Reaction"] / 100, rows["Subject"]
    bnn = wp.BNN(wp.mlp(["Days"], ()), wp.Gaussian())
    flat = wp.normal_prior(bnn, scale=np.inf, latents={"log_noise": (0.0, np.inf)})
    fit = partial(wp.fit_map, tolerance=1e-4)
    by_row, by_subject, both = (
        wp.cross_validate(bnn, x, y, prior=flat, fit=fit, **options)
        for options in (
            {"folds": subject},
            {"groups": subject, "num_folds": 18},
            {"groups": subject, "folds": subject},
        )
    )
    design = np.column_stack([np.ones(len(x)), x])
    expected = left_out(design, y.to_numpy(), subject.to_numpy())
    for found in (by_row, by_subject, both):
        np.testing.assert_allclose(found["elpd_i"], expected, rtol=0, atol=1e-3)
    sums = pd.Series(expected).groupby(subject).sum()
    np.testing.assert_allclose(by_row["elpd_se"], 180**0.5 * expected.std(ddof=1), rtol=1e-3)
    for found in (by_subject, both):
        np.testing.assert_allclose(found["elpd_se"], 18**0.5 * sums.std(), rtol=1e-3)
    # Which were of a proper prior.
    np.testing.assert_allclose([by_row["elpd_se"], both["elpd_se"]], [12.5, 27.2], rtol=0.02)


@pytest.mark.slow
def test_degrees_of_freedom_are_learned_from_stars_as_an_optimiser_does():
    rows = standardised(raw("starsCYG"))
    x, y = rows[["log.Te"]], rows["log.light"]
    bnn = wp.BNN(wp.mlp(["log.Te"], ()), wp.StudentT())
    with jax.enable_x64(True):
        fit = wp.fit_map(bnn, x, y, prior=wp.normal_prior(bnn, scale=2.0), tolerance=1e-8)

    def loss(at):
        slope, bias, log_noise, log_df = at
        terms = stats.norm.logpdf(at, [0, 0, -1, 2.5], [2, 2, 1, 0.8]).sum()
        location = bias + slope * x.to_numpy()[:, 0]
        return -terms - stats.t.logpdf(y, np.exp(log_df), location, np.exp(log_noise)).sum()

    starts = ([0, 0, -1, 2.5], [2, 0, -1, 0], [-1, 0, -1, 1])
    best = min((optimize.minimize(loss, start) for start in starts), key=lambda r: r.fun)
    names = ("output.weight", "output.bias", "log_noise", "log_df")
    found = [fit["posterior"][name].to_numpy().item() for name in names]
    np.testing.assert_allclose(found, best.x, rtol=0, atol=1e-4)
    np.testing.assert_allclose(fit["sample_stats"]["lp"].item(), -best.fun, rtol=0, atol=1e-6)


def motorcycle():
    """The classic: accelerations of a helmet, whose noise depends on the time."""
    rows = standardised(raw("mcycle"))
    bnn = wp.BNN(wp.mlp(["times"], (20,), num_outputs=2), wp.HeteroscedasticGaussian())
    prior = wp.normal_prior(bnn, scale={"hidden_0": 3.0, "output": 1.0})
    x, y = rows[["times"]], rows["accel"]
    return bnn, x, y, wp.fit_laplace(bnn, x, y, prior=prior, num_restarts=8)


@pytest.mark.slow
def test_noise_that_depends_on_time_is_found():
    bnn, x, y, fit = motorcycle()
    time = raw("mcycle")["times"].to_numpy()
    found = wp.predict(bnn, fit, x, quantiles=(0.05, 0.95))
    sd = found["sd"].to_numpy()
    # Before the impact the helmet is at rest, and every textbook's figure has a band that opens.
    assert sd[(time > 15) & (time < 40)].mean() > 5 * sd[time < 13].mean()
    inside = (found["quantiles"][:, 0] <= y.to_numpy()) & (y.to_numpy() <= found["quantiles"][:, 1])
    assert stats.binomtest(int(inside.sum()), len(y), 0.9).pvalue > 0.001
    # The one that learns a single noise loses, by far more than the error of the difference.
    plain = wp.BNN(wp.mlp(["times"], (20,)), wp.Gaussian())
    prior = wp.normal_prior(plain, scale={"hidden_0": 3.0, "output": 1.0})
    other = wp.fit_laplace(plain, x, y, prior=prior, num_restarts=8)
    apart = wp.score(bnn, fit, x, y)["elpd_i"] - wp.score(plain, other, x, y)["elpd_i"]
    assert apart.sum() > 3 * np.sqrt(len(y)) * apart.std()
