"""A fit that says no more than a constant is named, and one that rightly is a constant is not."""

import re
import warnings
from functools import partial

import numpy as np
import pytest

import shared_fits as fits
import weightprior as wp
from problems import NET
from weightprior.fits import constant
from weightprior.fits.constant import constant_doubt
from weightprior.fits.dependence import depends_on
from weightprior.fits.problem import Problem

X = np.random.default_rng(0).normal(size=(40, 2))
NOISE = np.random.default_rng(1).normal(size=40)
SIGNAL = np.tanh(2 * X[:, 0]) + 0.1 * NOISE
BNN = wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian())
GOOD = {
    "hidden_0.weight": 2 * np.eye(2, 3),
    "output.weight": np.eye(3, 1),
    "log_noise": np.array(-2.0),
}
NARROW = 0.01
SUCCESSES = np.digitize(X[:, 0], [-1.0, -0.5, 0.0, 0.5, 1.0])


@pytest.fixture(autouse=True)
def by_numpy(monkeypatch):
    """Means of draws by numpy, so that nothing is compiled."""

    def evaluate(function, bnn, draws, *args):
        # A linearised network is no perceptron.
        if function is constant._mean_of_draw and hasattr(bnn.network, "layers"):
            return fits.mean(bnn, draws, *args)
        return real(function, bnn, draws, *args)

    real = constant.evaluate
    monkeypatch.setattr(constant, "evaluate", evaluate)


def doubt(bnn, x, y, *weights, prior, row_weights=None):
    """Of a fit that ended at these weights, a point per prior."""
    problem = Problem.checked(bnn, x, y, prior=prior, row_weights=row_weights)
    own = {"draws": "point", "exact": False, "prior": prior, "row_weights": row_weights}
    return constant_doubt(problem, fits.light_fit(bnn, x, y, *map(point, weights), **own))


def point(weights):
    return {name: np.asarray(value, float)[None, None] for name, value in weights.items()}


def at_zero(bnn, **values):
    return {name: np.zeros(site.shape) for name, site in bnn.sites.items()} | values


def narrow(bnn, scale=NARROW, **options):
    return wp.normal_prior(bnn, scale=scale, **options)


def test_a_fit_that_is_a_constant_says_so_and_why():
    told = doubt(BNN, X, SIGNAL, at_zero(BNN), prior=narrow(BNN))
    assert "its predictions never vary over the rows (sd 0), though y depends on x" in told
    assert "The prior holds the weights at its centre" in told


def test_the_advice_for_a_narrow_prior_works():
    """Followed to the letter, and with the same options, nothing more is said."""
    y = 2 * NET.x[:, 0]
    with pytest.warns(UserWarning, match="fit_map: its predictions never vary") as caught:
        wp.fit_map(NET.bnn, NET.x, y, prior=NET.prior(scale=NARROW))
    [message] = [str(one.message) for one in caught]
    times = float(re.search(r"scales about (\S+) times as large", message)[1])
    fit = wp.fit_map(NET.bnn, NET.x, y, prior=NET.prior(scale=NARROW * times))
    assert wp.score(NET.bnn, fit, NET.x, y)["r2"] > 0.1


def test_units_that_are_flat_everywhere_are_named():
    bnn = wp.BNN(wp.mlp(2, hidden=(3,), activation="relu"), wp.Gaussian())
    dead = at_zero(bnn, **{"hidden_0.bias": np.full(3, -30.0), "output.weight": np.ones((3, 1))})
    loc = {"weight": 0.0, "bias": 0.0, "hidden_0.bias": -30.0}
    told = doubt(bnn, X, SIGNAL, dead, prior=wp.normal_prior(bnn, loc))
    assert "Every unit of 'hidden_0' is on the flat part of its activation at every row" in told


def test_a_better_optimum_is_looked_for_where_the_prior_is_wide():
    told = doubt(BNN, X, SIGNAL, at_zero(BNN), prior=wp.normal_prior(BNN))
    assert "there may be a better optimum. Look for it: fit_map(num_restarts=32)" in told


@pytest.mark.parametrize(
    ("likelihood", "num_outputs", "y"),
    [
        (wp.Bernoulli(), 1, (X[:, 0] > 0).astype(int)),
        (wp.Categorical(3), 3, np.digitize(X[:, 0], [-0.5, 0.5])),
        (wp.Poisson(), 1, np.round(np.exp(1 + X[:, 0]))),
        (wp.Binomial(), 1, np.stack([SUCCESSES, 5 - SUCCESSES], axis=1)),
        (wp.StudentT(df=4.0), 1, SIGNAL),
        (wp.Gaussian(), 2, np.stack([SIGNAL, NOISE], axis=1)),
    ],
    ids=["classes", "several classes", "counts", "trials", "outliers", "two outputs"],
)
def test_every_likelihood_is_judged_by_its_means(likelihood, num_outputs, y):
    bnn = wp.BNN(wp.mlp(2, hidden=(3,), num_outputs=num_outputs), likelihood)
    assert "never vary" in doubt(bnn, X, y, at_zero(bnn), prior=narrow(bnn))
    rng = np.random.default_rng(2)
    shuffled = rng.permutation(y)
    assert doubt(bnn, X, shuffled, at_zero(bnn), prior=narrow(bnn)) == ""


def test_rows_that_do_not_count_are_no_reason():
    counted = X[:, 1] > 0
    y = np.where(counted, NOISE, SIGNAL * 5)
    y[counted] -= y[counted].mean()
    told = partial(doubt, BNN, X, y, at_zero(BNN), prior=narrow(BNN))
    assert told(row_weights=counted.astype(float)) == ""
    assert "never vary" in told(row_weights=(~counted).astype(float))


class TestNoFalseAlarm:
    def test_no_rows_that_count(self):
        given = {"prior": narrow(BNN), "row_weights": np.zeros(40)}
        assert doubt(BNN, X, SIGNAL, at_zero(BNN), **given) == ""

    def test_targets_that_are_noise(self):
        assert doubt(BNN, X, NOISE, at_zero(BNN), prior=narrow(BNN)) == ""

    def test_inputs_that_do_not_matter_to_the_mean_but_to_the_noise(self):
        y = NOISE * np.exp(X[:, 0])
        assert doubt(BNN, X, y - y.mean(), at_zero(BNN), prior=narrow(BNN)) == ""

    def test_a_sweep_that_goes_to_an_end(self):
        good = at_zero(BNN, **GOOD)
        stack = wp.stack_priors([narrow(BNN), wp.normal_prior(BNN)])
        assert doubt(BNN, X, SIGNAL, at_zero(BNN), good, prior=stack) == ""
        assert "never vary" in doubt(BNN, X, SIGNAL, *[at_zero(BNN)] * 2, prior=stack)

    def test_few_rows(self):
        assert doubt(BNN, X[:8], SIGNAL[:8], at_zero(BNN), prior=narrow(BNN)) == ""

    def test_a_known_noise_beside_which_a_fit_is_worth_nothing(self):
        for noise, quiet in ((5.0, True), (0.5, False)):
            bnn = wp.BNN(wp.mlp(2, hidden=(3,)), wp.Gaussian(noise=noise))
            told = doubt(bnn, X, SIGNAL, at_zero(bnn), prior=narrow(bnn))
            assert (told == "") is quiet

    def test_targets_of_one_value(self):
        assert doubt(BNN, X, np.zeros(40), at_zero(BNN), prior=narrow(BNN)) == ""

    def test_draws_of_networks_whose_mean_is_a_constant(self):
        """Each says something: only together they do not, as of a posterior of few rows."""
        rng = np.random.default_rng(3)
        weights = fits.random_weights(BNN, rng, (2, 50))
        prior = wp.normal_prior(BNN)
        problem = Problem.checked(BNN, X, SIGNAL, prior=prior)
        assert constant_doubt(problem, fits.light_fit(BNN, X, SIGNAL, weights, prior=prior)) == ""

    def test_scales_of_data_that_were_doubted_before(self):
        far = 1e5 * SIGNAL
        with pytest.warns(UserWarning, match="Standardise y"):
            assert doubt(BNN, X, far, at_zero(BNN), prior=wp.normal_prior(BNN)) == ""


class TestWorseThanAConstant:
    def test_a_mean_out_of_reach_is_told_with_what_helps(self):
        y = NOISE + 5.0
        told = doubt(BNN, X, y, at_zero(BNN), prior=narrow(BNN))
        assert re.search(r"miss the fitted rows by 5\S* \(RMSE\), where y has sd 0\.\d+", told)
        assert "off by 5" in told
        assert "centre y, y - y.mean(axis=0)" in told
        assert doubt(BNN, X, y - y.mean(), at_zero(BNN), prior=narrow(BNN)) == ""

    def test_predictions_of_the_wrong_sign_are_a_poor_optimum(self):
        wrong = at_zero(BNN, **{"hidden_0.weight": np.eye(2, 3), "output.weight": np.eye(3, 1)})
        wrong["output.weight"] = -2 * wrong["output.weight"]
        told = doubt(BNN, X, SIGNAL - SIGNAL.mean(), wrong, prior=wp.normal_prior(BNN))
        assert "the mean of y would do better" in told
        assert "There may be a better optimum" in told

    def test_the_chance_of_a_mean_is_no_reason(self):
        """Ten means of noise around 0, of which some are two standard errors away."""
        rng = np.random.default_rng(4)
        for _ in range(10):
            assert doubt(BNN, X, rng.normal(size=40), at_zero(BNN), prior=narrow(BNN)) == ""


def test_a_fit_that_says_something_costs_nothing(monkeypatch):
    def fail(*args):
        raise AssertionError("something was evaluated")

    monkeypatch.setattr(constant, "evaluate", fail)
    good = at_zero(BNN, **GOOD)
    assert doubt(BNN, X, SIGNAL, good, prior=wp.normal_prior(BNN)) == ""


def test_dependence_has_the_level_it_claims_and_finds_what_is_there():
    """Of 200 data sets of noise a thousandth may seem to: 4 or more have a chance of 6e-5."""
    rng = np.random.default_rng(5)
    noise = rng.standard_t(4, size=(200, 40, 1)) * np.exp(X[:, :1])
    assert sum(depends_on(X, y) for y in noise) < 4
    for y in (X[:, 0], X[:, 1] ** 2, np.sin(3 * X[:, 0])):
        assert depends_on(X, (y - y.mean())[:, None])


@pytest.mark.slow
@pytest.mark.parametrize(
    "fit",
    [
        wp.fit_laplace,
        partial(wp.fit_vi, num_steps=2000),
        wp.fit_ensemble,
        partial(wp.fit_mcmc, num_samples=300),
        wp.fit_tempered,
    ],
)
def test_every_method_says_it_and_is_silent_where_it_should(fit):
    y = 2 * NET.x[:, 0]
    with pytest.warns(UserWarning, match=r"fit_\w+: .*predictions never vary over the rows"):
        fit(NET.bnn, NET.x, y, prior=NET.prior(scale=NARROW))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(NET.bnn, NET.x, np.random.default_rng(0).normal(size=15), prior=NET.prior(scale=0.1))
    assert not [one for one in caught if "never vary" in str(one.message)]
