"""Coefficients of counts, with nothing else than a likelihood: those of an independent maximiser.

Data sets of the field are looked for in a folder `shared/cases` beside the checkout, and tests that
need an absent one are skipped.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special

import weightprior as wp

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
    path = FOLDER / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"{name}.csv is not distributed with the package")
    frame = pd.read_csv(path)
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


@pytest.mark.parametrize(
    "name",
    [
        "NegativeBinomial",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("Poisson", "Binomial")),
    ],
)
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
